// The attention kernels by their definitions.
#include <cmath>

#include "../half.h"
#include "../lanes.h"
#include "attention.h"

namespace gs::attention {
namespace {

float value(uint16_t x) noexcept { return half_to_float(x); }
float value(float x) noexcept { return x; }

template <class T>
void scores(const float* q, int rows, int dim, const T* k, int64_t step, int keys, float* s,
            int width) noexcept {
    for (int m = 0; m < rows; ++m) {
        for (int j = 0; j < keys; ++j) {
            float lane[8] = {};
            for (int h = 0; h < dim; ++h) {
                lane[h % 8] = std::fma(q[m * dim + h], value(k[j * step + h]), lane[h % 8]);
            }
            s[m * width + j] = lanes_total(lane);
        }
    }
}

template <class T>
void blend(const float* p, int width, int rows, int dim, const T* v, int64_t step, int keys,
           float* o) noexcept {
    for (int m = 0; m < rows; ++m) {
        for (int j = 0; j < keys; ++j) {
            for (int h = 0; h < dim; ++h) {
                o[m * dim + h] = std::fma(p[m * width + j], value(v[j * step + h]), o[m * dim + h]);
            }
        }
    }
}

}  // namespace

extern const AttentionKernels scalar;
const AttentionKernels scalar{scores<uint16_t>, scores<float>, blend<uint16_t>, blend<float>};

}  // namespace gs::attention
