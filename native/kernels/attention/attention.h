// The two products of attention, over a run of keys or values in float16, as cached, or in float32.
//
// scores: s[m][j] = q[m] . k[j]      m < rows, j < keys
// blend:  o[m] += sum over j of p[m][j] * v[j], j ascending
// q, o: rows of `dim` float32 (dim a multiple of 8), one behind the other. k, v: `step` values apart.
// s, p: rows of `width` float32. A row's bits do not depend on how many rows there are, nor on the format.
// Class: reordered (scores in eight lanes).
#pragma once

#include "../isa.h"

namespace gs {

// T: uint16_t, whose bits are a float16, or float.
template <class T>
using Scores = void (*)(const float* q, int rows, int dim, const T* k, int64_t step, int keys, float* s,
                        int width) noexcept;
template <class T>
using Blend = void (*)(const float* p, int width, int rows, int dim, const T* v, int64_t step, int keys,
                       float* o) noexcept;

struct AttentionKernels {
    Scores<uint16_t> scores_half;
    Scores<float> scores;
    Blend<uint16_t> blend_half;
    Blend<float> blend;
};

std::span<const Entry<AttentionKernels>> attention_table() noexcept;

}  // namespace gs
