// matmul_q8_0 by its definition.
#include <cmath>

#include "../half.h"
#include "matmul_q8_0.h"

namespace gs::matmul_q8_0 {

void scalar(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    for (int t = 0; t < a.tokens; ++t) {
        for (int r = 0; r < kStrip; ++r) {
            float sum = 0;
            for (int b = 0; b < a.blocks; ++b) {
                const uint8_t* block = strip + static_cast<int64_t>(b) * kQ8_0Bytes;
                const int64_t at = static_cast<int64_t>(b) * a.tokens + t;
                int32_t dot = 0;
                for (int k = 0; k < kBlock; ++k) {
                    dot += static_cast<int8_t>(block[64 * (k / 4) + 4 * r + k % 4]) * a.q[at * kBlock + k];
                }
                sum = std::fma(static_cast<float>(dot), half_at(block + 512 + 2 * r) * a.scale[at], sum);
            }
            y[t * stride + r] = sum;
        }
    }
}

}  // namespace gs::matmul_q8_0
