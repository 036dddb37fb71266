// What several NEON kernels share. Included by neon.cpp files only, after every other include; everything is
// local to the file. An int8 kernel is compiled three times: a dotprod.cpp is its neon.cpp with GS_DOTPROD, where
// one instruction (Raspberry Pi 5, Apple, Graviton 2) multiplies and adds what takes four in plain NEON; an
// i8mm.cpp is it with GS_I8MM, where one instruction (Graviton 3, Apple M2) does two rows with two tokens: it
// serves whole tiles, for in smaller ones the weights' way into pairs costs what the products save.
#pragma once

#include "activations.h"
#include "isa.h"

#ifdef GS_ARM64
#include <cstring>
#include <type_traits>

#if defined(GS_I8MM)
#define GS_NEON i8mm
#define GS_BEGIN_NEON GS_BEGIN_I8MM
#define GS_END_NEON GS_END_TARGET
#elif defined(GS_DOTPROD)
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

[[maybe_unused]] constexpr int32_t kNothing[1] = {0};

// Dots<W>: the integer dot products of four rows with W tokens, less what they began with. Every kernel says
//     const Columns x(q, g)          16 columns of W tokens, from column 16 * g of a block
//     add<C, I>(part<C>(a, b), x)    a: columns 4 * I .. of x in four rows, b: those from 4 * I + 8;
//                                    C 0 and C 1 together are both. What is done to bytes may be done to parts
//     total(t)                       four rows with token t
#if defined(GS_DOTPROD) || defined(GS_I8MM)
template <int W>
struct SingleDots {
    static constexpr int kPairs = 0;
    struct Columns {
        int8x16_t q[W];
        Columns(const int8_t* from, int g) noexcept {
#pragma GCC unroll 4
            for (int t = 0; t < W; ++t) q[t] = vld1q_s8(from + t * kBlock + 16 * g);
        }
    };
    int32x4_t sum[W];
    static SingleDots zero() noexcept { return less(kNothing, 0); }
    // -off[t * step] for token t.
    static SingleDots less(const int32_t* off, int step) noexcept {
        SingleDots dots;
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) dots.sum[t] = vdupq_n_s32(-off[t * step]);
        return dots;
    }
    template <int C>
    static uint8x16_t part(uint8x16_t a, uint8x16_t b) noexcept { return C ? b : a; }
    template <int C, int I>
    void add(uint8x16_t w, const Columns& x) noexcept {
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t)
            sum[t] = vdotq_laneq_s32(sum[t], vreinterpretq_s8_u8(w), x.q[t], I + 2 * C);
    }
    int32x4_t total(int t) const noexcept { return sum[t]; }
};
#endif

#if defined(GS_I8MM)
// A whole tile of tokens, in the pairs quantize laid.
struct PairedDots {
    static constexpr int kPairs = kTile / 2;
    struct Columns {
        int8x16_t q[kPairs][2];  // eight columns of one token and the same of its partner, then the other eight
        Columns(const int8_t* from, int g) noexcept {
#pragma GCC unroll 2
            for (int p = 0; p < kPairs; ++p)
#pragma GCC unroll 2
                for (int i = 0; i < 2; ++i) q[p][i] = vld1q_s8(from + 2 * p * kBlock + 32 * g + 16 * i);
        }
    };
    int32x4_t low[kPairs], high[kPairs];  // rows 0 and 1, rows 2 and 3: each row with both tokens
    static PairedDots zero() noexcept { return less(kNothing, 0); }
    static PairedDots less(const int32_t* off, int step) noexcept {
        PairedDots dots;
#pragma GCC unroll 2
        for (int p = 0; p < kPairs; ++p) {
            const int32x2_t two = {-off[2 * p * step], -off[(2 * p + 1) * step]};
            dots.low[p] = dots.high[p] = vcombine_s32(two, two);
        }
        return dots;
    }
    // Eight columns of rows 0 and 1, or of rows 2 and 3.
    template <int C>
    static uint8x16_t part(uint8x16_t a, uint8x16_t b) noexcept {
        const uint32x4_t four = vreinterpretq_u32_u8(a), next = vreinterpretq_u32_u8(b);
        return vreinterpretq_u8_u32(C ? vzip2q_u32(four, next) : vzip1q_u32(four, next));
    }
    template <int C, int I>
    void add(uint8x16_t w, const Columns& x) noexcept {
#pragma GCC unroll 2
        for (int p = 0; p < kPairs; ++p) {
            int32x4_t& sum = C ? high[p] : low[p];
            sum = vmmlaq_s32(sum, vreinterpretq_s8_u8(w), x.q[p][I]);
        }
    }
    int32x4_t total(int t) const noexcept {
        return t % 2 ? vuzp2q_s32(low[t / 2], high[t / 2]) : vuzp1q_s32(low[t / 2], high[t / 2]);
    }
};

template <int W>
using Dots = std::conditional_t<W == kTile, PairedDots, SingleDots<W>>;
#elif defined(GS_DOTPROD)
template <int W>
using Dots = SingleDots<W>;
#else
struct PlainColumns {
    const int8_t* q;
    PlainColumns(const int8_t* from, int g) noexcept : q(from + 16 * g) {}
    // Four columns of token t in every 32-bit lane.
    template <int Lane>
    int8x16_t four(int t) const noexcept {
        int32_t bits;
        std::memcpy(&bits, q + t * kBlock + 4 * Lane, 4);
        return vreinterpretq_s8_s32(vdupq_n_s32(bits));
    }
};

// In int16: as many products of one column as the kernel's header says stay below 2^15.
template <int W>
struct Dots {
    static constexpr int kPairs = 0;
    using Columns = PlainColumns;
    int16x8_t low[W], high[W];  // rows 0 and 1, rows 2 and 3: four columns of each, not yet added up
    int32_t start[W];
    static Dots zero() noexcept { return less(kNothing, 0); }
    static Dots less(const int32_t* off, int step) noexcept {
        Dots dots;
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) {
            dots.low[t] = dots.high[t] = vdupq_n_s16(0);
            dots.start[t] = -off[t * step];
        }
        return dots;
    }
    template <int C>
    static uint8x16_t part(uint8x16_t a, uint8x16_t b) noexcept { return C ? b : a; }
    template <int C, int I>
    void add(uint8x16_t bytes, const Columns& x) noexcept {
        const int8x16_t w = vreinterpretq_s8_u8(bytes);
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) {
            const int8x16_t q = x.template four<I + 2 * C>(t);
            low[t] = vmlal_s8(low[t], vget_low_s8(w), vget_low_s8(q));
            high[t] = vmlal_high_s8(high[t], w, q);
        }
    }
    int32x4_t total(int t) const noexcept {
        return vaddq_s32(vpaddq_s32(vpaddlq_s16(low[t]), vpaddlq_s16(high[t])), vdupq_n_s32(start[t]));
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

// Two chunks of 64 bytes in matmul_q4_0's order, one part of them.
template <int C, class D, int H>
inline void nibble_part(const uint8_t* chunks, const typename D::Columns& x, D (&dot)[H]) noexcept {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
        const uint8x16_t w = D::template part<C>(vld1q_u8(chunks + 16 * h), vld1q_u8(chunks + 16 * h + 64));
        dot[h].template add<C, 0>(vandq_u8(w, vdupq_n_u8(15)), x);
        dot[h].template add<C, 1>(vshrq_n_u8(w, 4), x);
    }
}

// The products of one block in matmul_q4_0's order, nibbles unsigned; adds to dot.
template <class D, int H>
inline void nibble_dots(const uint8_t* nibbles, const int8_t* q, D (&dot)[H]) noexcept {
#pragma GCC unroll 2
    for (int g = 0; g < 2; ++g) {
        const typename D::Columns x(q, g);
        nibble_part<0>(nibbles + 128 * g, x, dot);
        nibble_part<1>(nibbles + 128 * g, x, dot);
    }
}

// sum += dot * scale of the row * scale of the token, where a block has one float16 scale a row.
template <class D, int H, int W>
inline void add_scaled(const uint8_t* scales, const D (&dot)[H], const float* token_scale,
                       float32x4_t (&sum)[H][W]) noexcept {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
        const float32x4_t scale = halves(scales + 8 * h);
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) {
            const float32x4_t factor = vmulq_n_f32(scale, token_scale[t]);
            sum[h][t] = vfmaq_f32(sum[h][t], vcvtq_f32_s32(dot[h].total(t)), factor);
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
