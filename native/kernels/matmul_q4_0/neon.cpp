// matmul_q4_0 in NEON: four rows a register; the nibbles stay unsigned and 8 * sum(a) is taken off.
#include "matmul_q4_0.h"

#ifdef GS_ARM64
#include "../neon.h"
GS_BEGIN_NEON
namespace gs::matmul_q4_0 {
namespace {

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        float32x4_t sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ4_0Bytes) {
            Dots dot[H][W];
            for (int h = 0; h < H; ++h)
                for (int t = 0; t < W; ++t) dot[h][t] = Dots::from(-a.eight[b * W + t]);
            nibble_dots(strip + 16 * first, q, dot);
#pragma GCC unroll 4
            for (int h = 0; h < H; ++h) {
                const float32x4_t scale = halves(strip + 256 + 8 * (first + h));
#pragma GCC unroll 4
                for (int t = 0; t < W; ++t) {
                    const float32x4_t factor = vmulq_n_f32(scale, a.scale[b * W + t]);
                    sum[h][t] = vfmaq_f32(sum[h][t], vcvtq_f32_s32(dot[h][t].total()), factor);
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

}  // namespace gs::matmul_q4_0
GS_END_NEON
#endif
