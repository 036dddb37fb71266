// peak in AVX2: pairs of products into int16, as the q4_0 kernel adds them up.
#include "peak.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::peak {

int64_t avx2(int64_t rounds) noexcept {
    constexpr int kChains = 6;
    const __m256i ones = _mm256_set1_epi16(1);
    int64_t done = 0;
    for (int64_t r = 0; r < rounds; ++r) {
        __m256i sum[kChains], x = _mm256_set1_epi8(1);
        for (__m256i& chain : sum) chain = _mm256_setzero_si256();
        for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 6
            for (__m256i& chain : sum) {
                asm("" : "+x"(x), "+x"(chain));  // or the compiler would multiply once, and copy chains about
                chain = _mm256_add_epi16(chain, _mm256_maddubs_epi16(x, x));
            }
        }
        for (const __m256i& chain : sum) {
            alignas(32) int32_t lanes[8];
            _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_madd_epi16(chain, ones));
            for (const int32_t lane : lanes) done += lane;
        }
    }
    return done;
}

}  // namespace gs::peak
GS_END_TARGET
#endif
