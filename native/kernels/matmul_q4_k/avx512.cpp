// matmul_q4_k in AVX-512 VNNI: the nibbles as in matmul_q4_0, the minimum from the activations' own sums.
#include "matmul_q4_k.h"

#ifdef GS_X86
#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::matmul_q4_k {
namespace {

inline __m512 bytes(const uint8_t* p) noexcept {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(sixteen));
}

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        __m512 sum[W];
        clear(sum);
        const int8_t* q = a.q;
        for (int first = 0; first < a.blocks; first += 8, strip += kQ4_kBytes) {
            const __m512 d = halves_wide(strip), dmin = halves_wide(strip + 32);
            const uint8_t* block = strip + 64;
            for (int b = first; b < first + 8; ++b, q += W * kBlock, block += 288) {
                fetch_ahead<288>(block);
                __m512i dot[W];
                for (int t = 0; t < W; ++t) dot[t] = _mm512_setzero_si512();
                nibble_dots<W>(block + 32, q, dot);
                const __m512 scale = _mm512_mul_ps(d, bytes(block));
                const __m512 least = _mm512_mul_ps(dmin, bytes(block + 16));
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t) {
                    const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(a.scale[b * W + t]));
                    sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[t]), factor, sum[t]);
                    sum[t] = _mm512_fnmadd_ps(least, _mm512_set1_ps(a.sum_scaled[b * W + t]), sum[t]);
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

}  // namespace gs::matmul_q4_k
GS_END_TARGET
#endif
