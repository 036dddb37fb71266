// matmul_q6_k in AVX2: six-bit values stay unsigned and 32 * sum(a) is taken off per half block.
#include "matmul_q6_k.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::matmul_q6_k {
namespace {

inline __m256i load(const uint8_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

inline __m256 signed_bytes(const uint8_t* p) noexcept {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// One half block (16 columns): the integer dot products of the strip with W tokens.
template <int W>
inline void dots(const uint8_t* nibbles, const uint8_t* high, const int8_t* q, __m256i (&dot)[2][W]) noexcept {
    const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(0x30), ones = _mm256_set1_epi16(1);
    clear(dot);
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
        __m256i lo[2], hi[2];
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
            const __m256i pair = load(nibbles + 64 * c + 32 * h), crumbs = load(high + 32 * h);
            const __m256i low_bits = c ? crumbs : _mm256_slli_epi16(crumbs, 4);
            const __m256i high_bits = c ? _mm256_srli_epi16(crumbs, 2) : _mm256_slli_epi16(crumbs, 2);
            lo[h] = _mm256_or_si256(_mm256_and_si256(pair, low), _mm256_and_si256(low_bits, top));
            hi[h] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(pair, 4), low),
                                    _mm256_and_si256(high_bits, top));
        }
#pragma GCC unroll 6
        for (int t = 0; t < W; ++t) {
            const int8_t* x = q + t * kBlock + 8 * c;
            const __m256i first = four(x), second = four(x + 4);
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h) {
                const __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(lo[h], first),
                                                     _mm256_maddubs_epi16(hi[h], second));
                dot[h][t] = _mm256_add_epi32(dot[h][t], _mm256_madd_epi16(sum, ones));
            }
        }
        settle(dot);
    }
}

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        __m256 sum[2][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock) {
            const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ6_kBytes;
            const uint8_t* block = super + 32 + 416 * (b % 8);
            fetch_ahead<416>(block);
            __m256 inner[2][W];
            clear(inner);
#pragma GCC unroll 2
            for (int g = 0; g < 2; ++g) {
                __m256i dot[2][W];
                dots(block + 32 + 128 * g, block + 288 + 64 * g, q + 16 * g, dot);
#pragma GCC unroll 2
                for (int h = 0; h < 2; ++h) {
                    const __m256 scale = signed_bytes(block + 16 * g + 8 * h);
#pragma GCC unroll 6
                    for (int t = 0; t < W; ++t) {
                        const __m256i off = _mm256_set1_epi32(a.halves[2 * (b * W + t) + g]);
                        const __m256 whole = _mm256_cvtepi32_ps(_mm256_sub_epi32(dot[h][t], off));
                        inner[h][t] = _mm256_fmadd_ps(whole, scale, inner[h][t]);
                    }
                }
            }
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h) {
                const __m256 d = halves(super + 16 * h);
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t) {
                    const __m256 factor = _mm256_mul_ps(d, _mm256_set1_ps(a.scale[b * W + t]));
                    sum[h][t] = _mm256_fmadd_ps(inner[h][t], factor, sum[h][t]);
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

}  // namespace gs::matmul_q6_k
GS_END_TARGET
#endif
