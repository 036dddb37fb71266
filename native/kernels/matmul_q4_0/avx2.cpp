// matmul_q4_0 in AVX2: eight rows a register; the nibbles stay unsigned and 8 * sum(a) is taken off.
#include "matmul_q4_0.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::matmul_q4_0 {
namespace {

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
        __m256 sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ4_0Bytes) {
            fetch_ahead<kQ4_0Bytes>(strip);
            __m256i dot[H][W];
            for (int h = 0; h < H; ++h)
                for (int t = 0; t < W; ++t) dot[h][t] = _mm256_setzero_si256();
#pragma GCC unroll 4
            for (int c = 0; c < 4; ++c) {
#pragma GCC unroll 2
                for (int h = 0; h < H; ++h) {
                    const uint8_t* at = strip + 64 * c + 32 * (first + h);
                    const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
                    const __m256i lo = _mm256_and_si256(pair, low);
                    const __m256i hi = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
#pragma GCC unroll 4
                    for (int t = 0; t < W; ++t) {
                        const int8_t* x = q + t * kBlock + 8 * c;
                        dot[h][t] = _mm256_add_epi16(dot[h][t], _mm256_maddubs_epi16(lo, four(x)));
                        dot[h][t] = _mm256_add_epi16(dot[h][t], _mm256_maddubs_epi16(hi, four(x + 4)));
                    }
                }
            }
            for (int h = 0; h < H; ++h) {
                const uint8_t* at = strip + 256 + 16 * (first + h);
                const __m256 scale = halves(at);
#pragma GCC unroll 4
                for (int t = 0; t < W; ++t) {
                    const __m256i eight = _mm256_set1_epi32(a.eight[b * W + t]);
                    const __m256i whole = _mm256_sub_epi32(_mm256_madd_epi16(dot[h][t], ones), eight);
                    const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(a.scale[b * W + t]));
                    sum[h][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), factor, sum[h][t]);
                }
            }
        }
        store(sum, first, y, stride);
    }
};

}  // namespace

void avx2(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_width<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q4_0
GS_END_TARGET
#endif
