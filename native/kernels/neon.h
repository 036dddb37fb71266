// What several NEON kernels share. Included by neon.cpp files only, after every other include; everything is
// local to the file. An int8 kernel is compiled twice: a dotprod.cpp is its neon.cpp with GS_DOTPROD, where
// one instruction (Raspberry Pi 5, Apple, Graviton 2) multiplies and adds what takes four in plain NEON.
#pragma once

#include "activations.h"
#include "isa.h"

#ifdef GS_ARM64
#include <cstring>

#ifdef GS_DOTPROD
#define GS_NEON dotprod
#define GS_BEGIN_NEON GS_BEGIN_DOTPROD
#define GS_END_NEON GS_END_TARGET
#else
#define GS_NEON neon
#define GS_BEGIN_NEON
#define GS_END_NEON
#endif

GS_BEGIN_NEON
namespace gs {
namespace {

#ifdef GS_DOTPROD
// 16 columns of one token.
struct Columns {
    int8x16_t q;
};

[[maybe_unused]] inline Columns columns(const int8_t* q) noexcept { return {vld1q_s8(q)}; }

// The integer dot products of four rows with one token.
struct Dots {
    int32x4_t sum;
    static Dots from(int32_t start) noexcept { return {vdupq_n_s32(start)}; }
    // w: four columns of each row; those are the columns 4 * Lane .. of x.
    template <int Lane>
    void add(int8x16_t w, const Columns& x) noexcept {
        sum = vdotq_laneq_s32(sum, w, x.q, Lane);
    }
    int32x4_t total() const noexcept { return sum; }
};
#else
struct Columns {
    const int8_t* q;
};

[[maybe_unused]] inline Columns columns(const int8_t* q) noexcept { return {q}; }

// Four columns of x in every 32-bit lane.
template <int Lane>
inline int8x16_t four(const Columns& x) noexcept {
    int32_t bits;
    std::memcpy(&bits, x.q + 4 * Lane, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

// As above, in int16: as many products of one column as the kernel's header says stay below 2^15.
struct Dots {
    int16x8_t low, high;  // rows 0 and 1, rows 2 and 3: four columns of each, not yet added up
    int32_t start;
    static Dots from(int32_t start) noexcept { return {vdupq_n_s16(0), vdupq_n_s16(0), start}; }
    template <int Lane>
    void add(int8x16_t w, const Columns& x) noexcept {
        const int8x16_t q = four<Lane>(x);
        low = vmlal_s8(low, vget_low_s8(w), vget_low_s8(q));
        high = vmlal_high_s8(high, w, q);
    }
    int32x4_t total() const noexcept {
        return vaddq_s32(vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)), vdupq_n_s32(start));
    }
};
#endif

// Four float16 as float32.
[[maybe_unused]] inline float32x4_t halves(const void* p) noexcept {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const uint8_t*>(p))));
}

// Eight lanes in two registers added up, in the order every kernel states: lane i with i + 4, then + 2, then + 1.
[[maybe_unused]] inline float total(float32x4_t low, float32x4_t high) noexcept {
    const float32x4_t four = vaddq_f32(low, high);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

template <int H, int W>
inline void clear(float32x4_t (&sum)[H][W]) noexcept {
    for (int h = 0; h < H; ++h)
        for (int t = 0; t < W; ++t) sum[h][t] = vdupq_n_f32(0);
}

// Registers of four rows, from row 4 * first, into y[t * stride + row].
template <int H, int W>
inline void store(const float32x4_t (&sum)[H][W], int first, float* y, int64_t stride) noexcept {
    for (int h = 0; h < H; ++h)
        for (int t = 0; t < W; ++t) vst1q_f32(y + t * stride + 4 * (first + h), sum[h][t]);
}

// One chunk of 64 bytes in matmul_q4_0's order: chunk C of two that lie within the 16 columns x.
template <int C, int H, int W>
inline void nibble_chunk(const uint8_t* chunk, const Columns (&x)[W], Dots (&dot)[H][W]) noexcept {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
        const uint8x16_t pair = vld1q_u8(chunk + 16 * h);
        const int8x16_t lo = vreinterpretq_s8_u8(vandq_u8(pair, vdupq_n_u8(15)));
        const int8x16_t hi = vreinterpretq_s8_u8(vshrq_n_u8(pair, 4));
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) {
            dot[h][t].template add<2 * C>(lo, x[t]);
            dot[h][t].template add<2 * C + 1>(hi, x[t]);
        }
    }
}

// The products of one block in matmul_q4_0's order, nibbles unsigned; adds to dot.
template <int H, int W>
inline void nibble_dots(const uint8_t* nibbles, const int8_t* q, Dots (&dot)[H][W]) noexcept {
#pragma GCC unroll 2
    for (int g = 0; g < 2; ++g) {
        Columns x[W];
        for (int t = 0; t < W; ++t) x[t] = columns(q + t * kBlock + 16 * g);
        nibble_chunk<0>(nibbles + 128 * g, x, dot);
        nibble_chunk<1>(nibbles + 128 * g + 64, x, dot);
    }
}

// sum += dot * scale of the row * scale of the token, where a block has one float16 scale a row.
template <class D, int H, int W>
inline void add_scaled(const uint8_t* scales, const D (&dot)[H][W], const float* token_scale,
                       float32x4_t (&sum)[H][W]) noexcept {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
        const float32x4_t scale = halves(scales + 8 * h);
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) {
            const float32x4_t factor = vmulq_n_f32(scale, token_scale[t]);
            sum[h][t] = vfmaq_f32(sum[h][t], vcvtq_f32_s32(dot[h][t].total()), factor);
        }
    }
}

// A strip by the width of its tile: 16 rows at once where few tokens leave registers free, else 8 and 8.
// Kernel::tile<H, W>(strip, a, first, y, stride) does H registers of four rows for W tokens.
template <class Kernel>
inline void by_width(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    switch (a.tokens) {
        case 1: return Kernel::template tile<4, 1>(strip, a, 0, y, stride);
        case 2: return Kernel::template tile<4, 2>(strip, a, 0, y, stride);
        case 3:
            Kernel::template tile<2, 3>(strip, a, 0, y, stride);
            return Kernel::template tile<2, 3>(strip, a, 2, y, stride);
        default:
            Kernel::template tile<2, 4>(strip, a, 0, y, stride);
            return Kernel::template tile<2, 4>(strip, a, 2, y, stride);
    }
}

}  // namespace
}  // namespace gs
GS_END_NEON
#endif
