// matmul_q4_k in NEON: the nibbles as in matmul_q4_0, the minimum from the activations' own sums.
#include "matmul_q4_k.h"

#ifdef GS_ARM64
#include "../neon.h"
GS_BEGIN_NEON
namespace gs::matmul_q4_k {
namespace {

inline float32x4_t bytes(const uint8_t* p) noexcept {
    uint32_t four_bytes;
    std::memcpy(&four_bytes, p, 4);
    const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four_bytes)));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
}

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        float32x4_t sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock) {
            const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ4_kBytes;
            const uint8_t* block = super + 64 + 288 * (b % 8);
            Dots<W> dot[H];
            for (int h = 0; h < H; ++h) dot[h] = Dots<W>::zero();
            nibble_dots(block + 32 + 16 * first, q, dot);
#pragma GCC unroll 4
            for (int h = 0; h < H; ++h) {
                const int row = 4 * (first + h);
                const float32x4_t scale = vmulq_f32(halves(super + 2 * row), bytes(block + row));
                const float32x4_t least = vmulq_f32(halves(super + 32 + 2 * row), bytes(block + 16 + row));
#pragma GCC unroll 4
                for (int t = 0; t < W; ++t) {
                    const float32x4_t factor = vmulq_n_f32(scale, a.scale[b * W + t]);
                    sum[h][t] = vfmaq_f32(sum[h][t], vcvtq_f32_s32(dot[h].total(t)), factor);
                    sum[h][t] = vfmsq_f32(sum[h][t], least, vdupq_n_f32(a.sum_scaled[b * W + t]));
                }
            }
        }
        store(sum, first, y, stride);
    }
};

}  // namespace

void GS_NEON(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_width<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q4_k
GS_END_NEON
#endif
