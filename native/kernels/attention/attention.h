// The two products of attention, over a run of cached keys or values in float16.
//
// scores: s[m][j] = q[m] . k[j]      m < rows, j < keys
// blend:  o[m] += sum over j of p[m][j] * v[j], j ascending
// q, o: rows of `dim` float32 (dim a multiple of 8), one behind the other. k, v: float16, `step` values
// apart. s, p: rows of `width` float32. A row's bits do not depend on how many rows there are.
// store: float32 to float16, nearest even. Class: reordered (scores in eight lanes), store exact.
#pragma once

#include "../isa.h"

namespace gs {

struct AttentionKernels {
    void (*scores)(const float* q, int rows, int dim, const uint16_t* k, int64_t step, int keys, float* s,
                   int width) noexcept;
    void (*blend)(const float* p, int width, int rows, int dim, const uint16_t* v, int64_t step, int keys,
                  float* o) noexcept;
    void (*store)(const float* x, int n, uint16_t* out) noexcept;
};

std::span<const Entry<AttentionKernels>> attention_table() noexcept;

}  // namespace gs
