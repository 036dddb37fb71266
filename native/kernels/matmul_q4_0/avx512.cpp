// matmul_q4_0 in AVX-512 VNNI: a strip's 16 rows are one register; 8 * sum(a) is taken off at the end.
#include "matmul_q4_0.h"

#ifdef GS_X86
#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::matmul_q4_0 {
namespace {

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        __m512 sum[W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ4_0Bytes) {
            fetch_ahead<kQ4_0Bytes>(strip);
            __m512i dot[W];
            for (int t = 0; t < W; ++t) dot[t] = _mm512_setzero_si512();
            nibble_dots<W>(strip, q, dot);
            const __m512 scale = halves_wide(strip + 256);
#pragma GCC unroll 6
            for (int t = 0; t < W; ++t) {
                const __m512i whole = _mm512_sub_epi32(dot[t], _mm512_set1_epi32(a.eight[b * W + t]));
                const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(a.scale[b * W + t]));
                sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), factor, sum[t]);
            }
        }
        store(sum, y, stride);
    }
};

}  // namespace

void avx512(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_tokens<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q4_0
GS_END_TARGET
#endif
