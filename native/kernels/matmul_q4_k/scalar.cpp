// matmul_q4_k by its definition.
#include <cmath>

#include "../half.h"
#include "matmul_q4_k.h"

namespace gs::matmul_q4_k {

void scalar(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    for (int t = 0; t < a.tokens; ++t) {
        for (int r = 0; r < kStrip; ++r) {
            float sum = 0;
            for (int b = 0; b < a.blocks; ++b) {
                const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ4_kBytes;
                const uint8_t* block = super + 64 + 288 * (b % 8);
                const int64_t at = static_cast<int64_t>(b) * a.tokens + t;
                int32_t dot = 0;
                for (int k = 0; k < kBlock; ++k) {
                    const uint8_t pair = block[32 + 64 * (k / 8) + 4 * r + k % 4];
                    dot += (k % 8 < 4 ? pair & 15 : pair >> 4) * a.q[at * kBlock + k];
                }
                const float scale = half_at(super + 2 * r) * static_cast<float>(block[r]);
                const float least = half_at(super + 32 + 2 * r) * static_cast<float>(block[16 + r]);
                sum = std::fma(static_cast<float>(dot), scale * a.scale[at], sum);
                sum = std::fma(-least, a.sum_scaled[at], sum);
            }
            y[t * stride + r] = sum;
        }
    }
}

}  // namespace gs::matmul_q4_k
