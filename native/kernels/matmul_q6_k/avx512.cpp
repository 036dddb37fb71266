// matmul_q6_k in AVX-512 VNNI: six-bit values stay unsigned and 32 * sum(a) is taken off per half block.
#include "matmul_q6_k.h"

#ifdef GS_X86
#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::matmul_q6_k {
namespace {

constexpr int kSelect = 0xca;  // of ternarylogic: bits of the second where the first has ones, else of the third

// One half block (16 columns): the integer dot products of 16 rows with W tokens.
template <int W>
inline void dots(const uint8_t* nibbles, const uint8_t* high, const int8_t* q, __m512i (&dot)[W]) noexcept {
    const __m512i low = _mm512_set1_epi8(15), top = _mm512_set1_epi8(0x30);
    const __m512i crumbs = _mm512_loadu_si512(high);
    for (int t = 0; t < W; ++t) dot[t] = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
        const __m512i pair = _mm512_loadu_si512(nibbles + 64 * c);
        const __m512i low_bits = c ? crumbs : _mm512_slli_epi16(crumbs, 4);
        const __m512i high_bits = c ? _mm512_srli_epi16(crumbs, 2) : _mm512_slli_epi16(crumbs, 2);
        const __m512i high_nibbles = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
        const __m512i lo = _mm512_ternarylogic_epi32(top, low_bits, _mm512_and_si512(pair, low), kSelect);
        const __m512i hi = _mm512_ternarylogic_epi32(top, high_bits, high_nibbles, kSelect);
#pragma GCC unroll 6
        for (int t = 0; t < W; ++t) {
            const int8_t* x = q + t * kBlock + 8 * c;
            dot[t] = _mm512_dpbusd_epi32(dot[t], lo, four_wide(x));
            dot[t] = _mm512_dpbusd_epi32(dot[t], hi, four_wide(x + 4));
        }
    }
}

inline __m512 signed_bytes(const uint8_t* p) noexcept {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen));
}

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        __m512 sum[W];
        clear(sum);
        const int8_t* q = a.q;
        for (int first = 0; first < a.blocks; first += 8, strip += kQ6_kBytes) {
            const __m512 d = halves_wide(strip);
            const uint8_t* block = strip + 32;
            for (int b = first; b < first + 8; ++b, q += W * kBlock, block += 416) {
                fetch_ahead<416>(block);
                __m512 inner[W];
                clear(inner);
#pragma GCC unroll 2
                for (int g = 0; g < 2; ++g) {
                    __m512i dot[W];
                    dots<W>(block + 32 + 128 * g, block + 288 + 64 * g, q + 16 * g, dot);
                    const __m512 scale = signed_bytes(block + 16 * g);
#pragma GCC unroll 6
                    for (int t = 0; t < W; ++t) {
                        const __m512i off = _mm512_set1_epi32(a.halves[2 * (b * W + t) + g]);
                        const __m512 whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(dot[t], off));
                        inner[t] = _mm512_fmadd_ps(whole, scale, inner[t]);
                    }
                }
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t) {
                    const __m512 factor = _mm512_mul_ps(d, _mm512_set1_ps(a.scale[b * W + t]));
                    sum[t] = _mm512_fmadd_ps(inner[t], factor, sum[t]);
                }
            }
        }
        store(sum, y, stride);
    }
};

}  // namespace

void avx512(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_tokens<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q6_k
GS_END_TARGET
#endif
