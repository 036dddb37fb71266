// Work on one row of float32 values: norms, activation, softcap, softmax.
//
// norm:      out = x / sqrt(mean(x^2) + eps) * weight (weight NULL: 1); out may be x.
// gelu_mul:  gate = gelu(gate) * up, gelu(x) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3), which
//            is the tanh form of Hendrycks & Gimpel, "Gaussian Error Linear Units".
// softcap:   x = cap * tanh(x / cap).
// exp_sum:   x = exp(x - peak), returns the sum; -inf becomes 0.
// peak:      the greatest, -inf of none; NaN if one is.
// Sums run in eight lanes, lane i % 8. exp is 2^n times a polynomial, within 2 ULP. Class: rounded.
#pragma once

#include "../isa.h"

namespace gs {

struct RowKernels {
    void (*norm)(const float* x, const float* weight, float eps, int n, float* out) noexcept;
    void (*gelu_mul)(float* gate, const float* up, int n) noexcept;
    void (*softcap)(float* x, int64_t n, float cap) noexcept;
    float (*exp_sum)(float* x, int n, float peak) noexcept;
    float (*peak)(const float* x, int n) noexcept;
};

std::span<const Entry<RowKernels>> rows_table() noexcept;

}  // namespace gs
