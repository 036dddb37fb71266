// matmul_q6_k by its definition.
#include <cmath>

#include "../half.h"
#include "matmul_q6_k.h"

namespace gs::matmul_q6_k {

static int value(const uint8_t* block, int r, int k) noexcept {
    const int chunk = k / 8, high = k % 8 >= 4, j = 4 * r + k % 4;
    const int nibble = (block[32 + 64 * chunk + j] >> (high ? 4 : 0)) & 15;
    const int crumb = (block[288 + 64 * (chunk / 2) + j] >> (4 * (chunk % 2) + 2 * high)) & 3;
    return (nibble | crumb << 4) - 32;
}

void scalar(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    for (int t = 0; t < a.tokens; ++t) {
        for (int r = 0; r < kStrip; ++r) {
            float sum = 0;
            for (int b = 0; b < a.blocks; ++b) {
                const uint8_t* super = strip + static_cast<int64_t>(b / 8) * kQ6_kBytes;
                const uint8_t* block = super + 32 + 416 * (b % 8);
                const int64_t at = static_cast<int64_t>(b) * a.tokens + t;
                float inner = 0;
                for (int g = 0; g < 2; ++g) {
                    int32_t dot = 0;
                    for (int k = 16 * g; k < 16 * (g + 1); ++k) dot += value(block, r, k) * a.q[at * kBlock + k];
                    const auto scale = static_cast<int8_t>(block[16 * g + r]);
                    inner = std::fma(static_cast<float>(dot), static_cast<float>(scale), inner);
                }
                sum = std::fma(inner, half_at(super + 2 * r) * a.scale[at], sum);
            }
            y[t * stride + r] = sum;
        }
    }
}

}  // namespace gs::matmul_q6_k
