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

// The integer dot products of one block: eight rows, W tokens.
template <int W>
inline void dots(const uint8_t* nibbles, const int8_t* q, __m256i* dot) noexcept {
    const __m256i low = _mm256_set1_epi8(15);
    for (int t = 0; t < W; ++t) dot[t] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(nibbles + 64 * c));
        const __m256i lo = _mm256_and_si256(pair, low);
        const __m256i hi = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) {
            const int8_t* x = q + t * kBlock + 8 * c;
            dot[t] = _mm256_add_epi16(dot[t], _mm256_maddubs_epi16(lo, four(x)));
            dot[t] = _mm256_add_epi16(dot[t], _mm256_maddubs_epi16(hi, four(x + 4)));
        }
    }
}

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256 sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock) {
            const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ4_kBytes;
            const uint8_t* block = super + 64 + 288 * (b % 8);
            fetch_ahead<288>(block);
#pragma GCC unroll 2
            for (int h = 0; h < H; ++h) {
                const int row = 8 * (first + h);
                __m256i dot[W];
                dots<W>(block + 32 + 4 * row, q, dot);
                const __m256 scale = _mm256_mul_ps(halves(super + 2 * row), bytes(block + row));
                const __m256 least = _mm256_mul_ps(halves(super + 32 + 2 * row), bytes(block + 16 + row));
#pragma GCC unroll 4
                for (int t = 0; t < W; ++t) {
                    const __m256 whole = _mm256_cvtepi32_ps(_mm256_madd_epi16(dot[t], ones));
                    const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(a.scale[b * W + t]));
                    sum[h][t] = _mm256_fmadd_ps(whole, factor, sum[h][t]);
                    sum[h][t] = _mm256_fnmadd_ps(least, _mm256_set1_ps(a.sum_scaled[b * W + t]), sum[h][t]);
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

}  // namespace gs::matmul_q4_k
GS_END_TARGET
#endif
