// peak in NEON: eight products into int16; with GS_DOTPROD sixteen into int32, with GS_I8MM thirty-two.
#include "peak.h"

#ifdef GS_ARM64
#include "../neon.h"
GS_BEGIN_NEON
namespace gs::peak {

int64_t GS_NEON(int64_t rounds) noexcept {
    constexpr int kChains = 12;
    int64_t done = 0;
    for (int64_t r = 0; r < rounds; ++r) {
        int8x16_t x = vdupq_n_s8(1);
#if defined(GS_DOTPROD) || defined(GS_I8MM)
        int32x4_t sum[kChains];
        for (auto& chain : sum) chain = vdupq_n_s32(0);
        for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
            for (auto& chain : sum) {
#ifdef GS_I8MM
                chain = vmmlaq_s32(chain, x, x);
#else
                chain = vdotq_s32(chain, x, x);
#endif
            }
        }
        for (const auto& chain : sum) done += vaddvq_s32(chain);
#else
        int16x8_t sum[kChains];
        for (auto& chain : sum) chain = vdupq_n_s16(0);
        for (int i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 12
            for (auto& chain : sum) {
                asm("" : "+w"(x), "+w"(chain));  // or the compiler would multiply once, and copy chains about
                chain = vmlal_s8(chain, vget_low_s8(x), vget_low_s8(x));
            }
        }
        for (const auto& chain : sum) done += vaddlvq_s16(chain);
#endif
    }
    return done;
}

}  // namespace gs::peak
GS_END_NEON
#endif
