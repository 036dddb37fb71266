// matmul_float by its definition.
#include <cmath>
#include <cstring>

#include "../half.h"
#include "../lanes.h"
#include "matmul_float.h"

namespace gs::matmul_float {

static float value(FloatFormat format, const uint8_t* row, int64_t k) noexcept {
    if (format == FloatFormat::f32) {
        float x;
        std::memcpy(&x, row + 4 * k, 4);
        return x;
    }
    uint16_t bits;
    std::memcpy(&bits, row + 2 * k, 2);
    return format == FloatFormat::f16 ? half_to_float(bits) : bfloat_to_float(bits);
}

void scalar(FloatFormat format, const void* w, int num_rows, int64_t columns, const float* x, int64_t x_stride,
            int tokens, float* y, int64_t y_stride) noexcept {
    const int64_t row_bytes = columns * (format == FloatFormat::f32 ? 4 : 2);
    for (int r = 0; r < num_rows; ++r) {
        const uint8_t* row = static_cast<const uint8_t*>(w) + r * row_bytes;
        for (int t = 0; t < tokens; ++t) {
            float lane[8] = {};
            for (int64_t k = 0; k < columns; ++k) {
                lane[k % 8] = std::fma(value(format, row, k), x[t * x_stride + k], lane[k % 8]);
            }
            y[t * y_stride + r] = lanes_total(lane);
        }
    }
}

}  // namespace gs::matmul_float
