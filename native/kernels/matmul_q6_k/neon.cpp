// matmul_q6_k in NEON: six-bit values stay unsigned and 32 * sum(a) is taken off per half block.
#include "matmul_q6_k.h"

#ifdef GS_ARM64
#include "../neon.h"
GS_BEGIN_NEON
namespace gs::matmul_q6_k {
namespace {

// The high nibbles' bits where a bsl takes them; low_bits: the low nibbles', two places above.
template <int C, class D>
inline uint8x16_t high_bits(uint8x16_t crumbs, uint8x16_t low_bits) noexcept {
    if constexpr (D::kPairs > 0) return vshrq_n_u8(low_bits, 2);
    return C ? vshrq_n_u8(crumbs, 2) : vshlq_n_u8(crumbs, 2);
}

// One part of a half block's two chunks of nibbles, and the high bits of both.
template <int C, class D, int H>
inline void part(const uint8_t* nibbles, const uint8_t* high, const typename D::Columns& x, D (&dot)[H]) noexcept {
    const uint8x16_t low = vdupq_n_u8(15), top = vdupq_n_u8(0x30);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
        const uint8x16_t crumbs = vld1q_u8(high + 16 * h);
        const uint8x16_t bits = D::template part<C>(vshlq_n_u8(crumbs, 4), crumbs);
        const uint8x16_t w = D::template part<C>(vld1q_u8(nibbles + 16 * h), vld1q_u8(nibbles + 16 * h + 64));
        dot[h].template add<C, 0>(vbslq_u8(top, bits, vandq_u8(w, low)), x);
        dot[h].template add<C, 1>(vbslq_u8(top, high_bits<C, D>(crumbs, bits), vshrq_n_u8(w, 4)), x);
    }
}

inline float32x4_t signed_bytes(const uint8_t* p) noexcept {
    int32_t four_bytes;
    std::memcpy(&four_bytes, p, 4);
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four_bytes)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}

// One half block (16 columns) of H registers of rows, times its scales, added to inner.
template <int H, int W>
inline void half_block(const uint8_t* block, int g, int first, const int8_t* q, const int32_t* off,
                       float32x4_t (&inner)[H][W]) noexcept {
    const typename Dots<W>::Columns x(q, g);
    Dots<W> dot[H];
    for (int h = 0; h < H; ++h) dot[h] = Dots<W>::less(off + g, 2);
    const uint8_t *nibbles = block + 32 + 128 * g + 16 * first, *high = block + 288 + 64 * g + 16 * first;
    part<0>(nibbles, high, x, dot);
    part<1>(nibbles, high, x, dot);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
        const float32x4_t scale = signed_bytes(block + 16 * g + 4 * (first + h));
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t)
            inner[h][t] = vfmaq_f32(inner[h][t], vcvtq_f32_s32(dot[h].total(t)), scale);
    }
}

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        float32x4_t sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock) {
            const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ6_kBytes;
            const uint8_t* block = super + 32 + 416 * (b % 8);
            float32x4_t inner[H][W];
            clear(inner);
            for (int g = 0; g < 2; ++g) half_block(block, g, first, q, a.halves + 2 * b * W, inner);
#pragma GCC unroll 4
            for (int h = 0; h < H; ++h) {
                const float32x4_t d = halves(super + 8 * (first + h));
#pragma GCC unroll 4
                for (int t = 0; t < W; ++t)
                    sum[h][t] = vfmaq_f32(sum[h][t], inner[h][t], vmulq_n_f32(d, a.scale[b * W + t]));
            }
        }
        store(sum, first, y, stride);
    }
};

}  // namespace

void GS_NEON(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_width<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q6_k
GS_END_NEON
#endif
