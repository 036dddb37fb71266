// matmul_q8_0 in AVX2: the sign of a weight moves to the activation, so that one factor is unsigned.
#include "matmul_q8_0.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::matmul_q8_0 {
namespace {

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256 sum[2][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ8_0Bytes) {
            fetch_ahead<kQ8_0Bytes>(strip);
            __m256i dot[2][W];
            clear(dot);
#pragma GCC unroll 8
            for (int c = 0; c < 8; ++c) {
                __m256i w[2], size[2];
                for (int h = 0; h < 2; ++h) {
                    w[h] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(strip + 64 * c + 32 * h));
                    size[h] = _mm256_abs_epi8(w[h]);  // -128 becomes 128, read as unsigned
                }
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t) {
                    const __m256i x = four(q + t * kBlock + 4 * c);
#pragma GCC unroll 2
                    for (int h = 0; h < 2; ++h) {
                        // At most 2 * 128 * 127.
                        const __m256i pairs = _mm256_maddubs_epi16(size[h], _mm256_sign_epi8(x, w[h]));
                        dot[h][t] = _mm256_add_epi32(dot[h][t], _mm256_madd_epi16(pairs, ones));
                    }
                }
                settle(dot);
            }
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h) {
                const __m256 scale = halves(strip + 512 + 16 * h);
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t) {
                    const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(a.scale[b * W + t]));
                    sum[h][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[h][t]), factor, sum[h][t]);
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

}  // namespace gs::matmul_q8_0
GS_END_TARGET
#endif
