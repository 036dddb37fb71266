// peak in AVX-512 VNNI: four products into int32.
#include "peak.h"

#ifdef GS_X86
#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::peak {

int64_t avx512(int64_t rounds) noexcept {
    constexpr int kChains = 12;
    int64_t done = 0;
    for (int64_t r = 0; r < rounds; ++r) {
        __m512i sum[kChains];
        for (__m512i& chain : sum) chain = _mm512_setzero_si512();
        __m512i x = _mm512_set1_epi8(1);
        for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
            for (__m512i& chain : sum) {
#ifndef GS_EMULATED_AVX512  // there a register is an array
                asm("" : "+v"(x), "+v"(chain));  // or the compiler would add up one chain for all
#endif
                chain = _mm512_dpbusd_epi32(chain, x, x);
            }
        }
        for (const __m512i& chain : sum) {
            alignas(64) int32_t lanes[16];
            _mm512_storeu_si512(lanes, chain);
            for (const int32_t lane : lanes) done += lane;
        }
    }
    return done;
}

}  // namespace gs::peak
GS_END_TARGET
#endif
