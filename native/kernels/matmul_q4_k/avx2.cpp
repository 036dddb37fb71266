// matmul_q4_k in AVX2: the nibbles as in matmul_q4_0, the minimum from the activations' own sums.
#include "matmul_q4_k.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::matmul_q4_k {
namespace {

inline __m256 bytes(const uint8_t* p) noexcept {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256 sum[2][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock) {
            const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ4_kBytes;
            const uint8_t* block = super + 64 + 288 * (b % 8);
            fetch_ahead<288>(block);
            __m256i dot[2][W];
            clear(dot);
            nibble_dots(block + 32, q, dot);
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h) {
                const __m256 scale = _mm256_mul_ps(halves(super + 16 * h), bytes(block + 8 * h));
                const __m256 least = _mm256_mul_ps(halves(super + 32 + 16 * h), bytes(block + 16 + 8 * h));
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t) {
                    const __m256 whole = _mm256_cvtepi32_ps(_mm256_madd_epi16(dot[h][t], ones));
                    const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(a.scale[b * W + t]));
                    sum[h][t] = _mm256_fmadd_ps(whole, factor, sum[h][t]);
                    sum[h][t] = _mm256_fnmadd_ps(least, _mm256_set1_ps(a.sum_scaled[b * W + t]), sum[h][t]);
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

}  // namespace gs::matmul_q4_k
GS_END_TARGET
#endif
