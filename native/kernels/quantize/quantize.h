// One row of activations to int8: per block of 32, scale = max |x| / 127 and q = round(x / scale).
//
// x [32 * tile.blocks]; writes token `t` of the tile in the layout of activations.h. A block whose
// values are not all finite gets a scale of NaN and q = 0, so that the row's results are NaN too.
// Rounding is to nearest, ties to even. Result class: exact.
#pragma once

#include "../activations.h"
#include "../isa.h"

namespace gs {
using Quantize = void (*)(const float* x, const Activations& tile, int t) noexcept;
std::span<const Entry<Quantize>> quantize_table() noexcept;
}  // namespace gs
