// matmul_q4_0 in AVX2: the nibbles stay unsigned and 8 * sum(a) is taken off.
#include "matmul_q4_0.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::matmul_q4_0 {
namespace {

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256 sum[2][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ4_0Bytes) {
            fetch_ahead<kQ4_0Bytes>(strip);
            __m256i dot[2][W];
            clear(dot);
            nibble_dots(strip, q, dot);
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h) {
                const __m256 scale = halves(strip + 256 + 16 * h);
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t) {
                    const __m256i eight = _mm256_set1_epi32(a.eight[b * W + t]);
                    const __m256i whole = _mm256_sub_epi32(_mm256_madd_epi16(dot[h][t], ones), eight);
                    const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(a.scale[b * W + t]));
                    sum[h][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), factor, sum[h][t]);
                }
            }
        }
        store(sum, y, stride);
    }
};

}  // namespace

void avx2(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_width<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q4_0
GS_END_TARGET
#endif
