// y[t][r] = sum over k of w[r][k] * x[t][k], weights float32, float16 or bfloat16 as they lie in a file.
//
// w: num_rows rows of `columns` values, row-major, any alignment; x [tokens] rows of float32, x_stride apart.
// Accumulator: eight float32 lanes per (row, token), lane k % 8, added pairwise at the end: the same for
// every number of rows and tokens. Result class: reordered.
#pragma once

#include "../isa.h"

namespace gs {

enum class FloatFormat : int { f32, f16, bf16 };

using MatmulFloat = void (*)(FloatFormat format, const void* w, int num_rows, int64_t columns, const float* x,
                             int64_t x_stride, int tokens, float* y, int64_t y_stride) noexcept;

std::span<const Entry<MatmulFloat>> matmul_float_table() noexcept;

// Asks for a line of each of the rows that come after these, into the second cache where they are wide: rows side
// by side are as many streams, and each leaves its page every 4 kB, where the hardware's own asking ends.
inline void ask_ahead(const uint8_t* w, int64_t row_bytes, int rows) noexcept {
    const auto next = reinterpret_cast<uintptr_t>(w) + static_cast<uintptr_t>(rows * row_bytes);  // maybe none
    for (int r = 0; r < rows; ++r) {
        const auto* line = reinterpret_cast<const void*>(next + static_cast<uintptr_t>(r * row_bytes));
        if (rows * row_bytes <= 16384) __builtin_prefetch(line);
        else __builtin_prefetch(line, 0, 2);
    }
}

}  // namespace gs
