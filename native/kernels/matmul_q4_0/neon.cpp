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
            Dots<W> dot[H];
            for (int h = 0; h < H; ++h) dot[h] = Dots<W>::less(a.eight + b * W, 1);
            nibble_dots(strip + 16 * first, q, dot);
            add_scaled(strip + 256 + 8 * first, dot, a.scale + b * W, sum);
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
