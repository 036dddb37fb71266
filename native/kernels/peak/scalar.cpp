// peak by its definition: one product at a time, in four chains.
#include "peak.h"

namespace gs::peak {

int64_t scalar(int64_t rounds) noexcept {
    int64_t done = 0;
    for (int64_t r = 0; r < rounds; ++r) {
        int32_t sum[4] = {}, one = 1;
        for (int i = 0; i < kPeakRounds; ++i)
            for (int& chain : sum) {
                asm("" : "+r"(one));  // or the compiler would know the product
                chain += one * one;
            }
        for (const int chain : sum) done += chain;
    }
    return done;
}

}  // namespace gs::peak
