// The attention kernels by their definitions.
#include <cmath>

#include "../half.h"
#include "../lanes.h"
#include "attention.h"

namespace gs::attention {
namespace {

void scores(const float* q, int rows, int dim, const uint16_t* k, int64_t step, int keys, float* s,
            int width) noexcept {
    for (int m = 0; m < rows; ++m) {
        for (int j = 0; j < keys; ++j) {
            float lane[8] = {};
            for (int h = 0; h < dim; ++h) {
                lane[h % 8] = std::fma(q[m * dim + h], half_to_float(k[j * step + h]), lane[h % 8]);
            }
            s[m * width + j] = lanes_total(lane);
        }
    }
}

void blend(const float* p, int width, int rows, int dim, const uint16_t* v, int64_t step, int keys,
           float* o) noexcept {
    for (int m = 0; m < rows; ++m) {
        for (int j = 0; j < keys; ++j) {
            for (int h = 0; h < dim; ++h) {
                o[m * dim + h] = std::fma(p[m * width + j], half_to_float(v[j * step + h]), o[m * dim + h]);
            }
        }
    }
}

void store(const float* x, int n, uint16_t* out) noexcept {
    for (int i = 0; i < n; ++i) out[i] = float_to_half(x[i]);
}

}  // namespace

extern const AttentionKernels scalar;
const AttentionKernels scalar{scores, blend, store};

}  // namespace gs::attention
