// matmul_q8_0 in AVX-512 VNNI: weights become unsigned by adding 128, and 128 * sum(a) is taken off.
#include "matmul_q8_0.h"

#ifdef GS_X86
#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::matmul_q8_0 {
namespace {

struct Kernel {
    template <int W>
    static void tile(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
        const __m512i flip = _mm512_set1_epi8(-128);
        __m512 sum[W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ8_0Bytes) {
            fetch_ahead<kQ8_0Bytes>(strip);
            __m512i dot[W];  // at most 32 * 255 * 127
            for (int t = 0; t < W; ++t) dot[t] = _mm512_setzero_si512();
#pragma GCC unroll 8
            for (int c = 0; c < 8; ++c) {
                const __m512i w = _mm512_xor_si512(_mm512_loadu_si512(strip + 64 * c), flip);
#pragma GCC unroll 6
                for (int t = 0; t < W; ++t)
                    dot[t] = _mm512_dpbusd_epi32(dot[t], w, four_wide(q + t * kBlock + 4 * c));
            }
            const __m512 scale = halves_wide(strip + 512);
#pragma GCC unroll 6
            for (int t = 0; t < W; ++t) {
                const __m512i off = _mm512_slli_epi32(_mm512_set1_epi32(a.eight[b * W + t]), 4);
                const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(a.scale[b * W + t]));
                sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(dot[t], off)), factor, sum[t]);
            }
        }
        store(sum, y, stride);
    }
};

}  // namespace

void avx512(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_tokens<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q8_0
GS_END_TARGET
#endif
