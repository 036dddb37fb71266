// The row kernels by their definitions.
#include <cmath>

#include "../lanes.h"
#include "rows.h"

namespace gs::rows {
namespace {

void norm(const float* x, const float* weight, float eps, int n, float* out) noexcept {
    float lane[8] = {};
    for (int i = 0; i < n; ++i) lane[i % 8] = std::fma(x[i], x[i], lane[i % 8]);
    const float scale = 1.0f / std::sqrt(lanes_total(lane) / static_cast<float>(n) + eps);
    for (int i = 0; i < n; ++i) out[i] = weight ? x[i] * scale * weight[i] : x[i] * scale;
}

void gelu_mul(float* gate, const float* up, int n) noexcept {
    for (int i = 0; i < n; ++i) {
        const float x = gate[i], u = 0.79788456080286536f * (x + 0.044715f * x * x * x);
        gate[i] = x / (1.0f + std::exp(-2.0f * u)) * up[i];
    }
}

void softcap(float* x, int64_t n, float cap) noexcept {
    for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

float exp_sum(float* x, int n, float peak) noexcept {
    float lane[8] = {};
    for (int i = 0; i < n; ++i) {
        x[i] = std::exp(x[i] - peak);
        lane[i % 8] += x[i];
    }
    return lanes_total(lane);
}

float peak(const float* x, int n) noexcept {
    float most = -INFINITY;
    for (int i = 0; i < n; ++i) {
        if (std::isnan(x[i])) return x[i];
        if (x[i] > most) most = x[i];
    }
    return most;
}

}  // namespace

extern const RowKernels scalar;
const RowKernels scalar{norm, gelu_mul, softcap, exp_sum, peak};

}  // namespace gs::rows
