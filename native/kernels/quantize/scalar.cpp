// quantize by its definition.
#include <cmath>
#include <limits>

#include "quantize.h"

namespace gs::quantize {

void scalar(const float* x, const Activations& tile, int t) noexcept {
    for (int b = 0; b < tile.blocks; ++b, x += kBlock) {
        const int64_t at = static_cast<int64_t>(b) * tile.tokens + t;
        float peak = 0;
        bool finite = true;
        for (int k = 0; k < kBlock; ++k) {
            finite = finite && std::isfinite(x[k]);
            peak = std::fmax(peak, std::fabs(x[k]));
        }
        const float scale = finite ? peak / 127.0f : std::numeric_limits<float>::quiet_NaN();
        // A peak too small to divide by rounds to nothing.
        const float inverse = finite && peak > 1e-30f ? 127.0f / peak : 0.0f;
        int half[2] = {0, 0};
        for (int k = 0; k < kBlock; ++k) {
            const int q = finite ? static_cast<int>(std::nearbyint(x[k] * inverse)) : 0;
            tile.q[at * kBlock + k] = static_cast<int8_t>(q);
            half[k / 16] += q;
        }
        tile.scale[at] = scale;
        tile.sum_scaled[at] = scale * static_cast<float>(half[0] + half[1]);
        tile.eight[at] = 8 * (half[0] + half[1]);
        tile.halves[2 * at] = 32 * half[0];
        tile.halves[2 * at + 1] = 32 * half[1];
    }
}

}  // namespace gs::quantize
