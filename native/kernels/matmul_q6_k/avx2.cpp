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

// One half block (16 columns): the integer dot products of eight rows with W tokens.
template <int W>
inline void dots(const uint8_t* nibbles, const uint8_t* high, const int8_t* q, __m256i* dot) noexcept {
    const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(0x30), ones = _mm256_set1_epi16(1);
    const __m256i crumbs = load(high);
    for (int t = 0; t < W; ++t) dot[t] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
        const __m256i pair = load(nibbles + 64 * c);
        const __m256i low_bits = c ? crumbs : _mm256_slli_epi16(crumbs, 4);
        const __m256i high_bits = c ? _mm256_srli_epi16(crumbs, 2) : _mm256_slli_epi16(crumbs, 2);
        const __m256i lo = _mm256_or_si256(_mm256_and_si256(pair, low), _mm256_and_si256(low_bits, top));
        const __m256i hi = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(pair, 4), low),
                                           _mm256_and_si256(high_bits, top));
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) {
            const int8_t* x = q + t * kBlock + 8 * c;
            const __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(lo, four(x)),
                                                 _mm256_maddubs_epi16(hi, four(x + 4)));
            dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(sum, ones));
        }
    }
}

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        __m256 sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock) {
            const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ6_kBytes;
            const uint8_t* block = super + 32 + 416 * (b % 8);
            fetch_ahead<416>(block);
#pragma GCC unroll 2
            for (int h = 0; h < H; ++h) {
                const int row = 8 * (first + h);
                __m256 inner[W];
                for (int t = 0; t < W; ++t) inner[t] = _mm256_setzero_ps();
#pragma GCC unroll 2
                for (int g = 0; g < 2; ++g) {
                    __m256i dot[W];
                    dots<W>(block + 32 + 128 * g + 4 * row, block + 288 + 64 * g + 4 * row, q + 16 * g, dot);
                    const __m256 scale = signed_bytes(block + 16 * g + row);
#pragma GCC unroll 4
                    for (int t = 0; t < W; ++t) {
                        const __m256i off = _mm256_set1_epi32(a.halves[2 * (b * W + t) + g]);
                        const __m256 whole = _mm256_cvtepi32_ps(_mm256_sub_epi32(dot[t], off));
                        inner[t] = _mm256_fmadd_ps(whole, scale, inner[t]);
                    }
                }
                const uint8_t* at = super + 2 * row;
                const __m256 d = halves(at);
                for (int t = 0; t < W; ++t) {
                    const __m256 factor = _mm256_mul_ps(d, _mm256_set1_ps(a.scale[b * W + t]));
                    sum[h][t] = _mm256_fmadd_ps(inner[t], factor, sum[h][t]);
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

}  // namespace gs::matmul_q6_k
GS_END_TARGET
#endif
