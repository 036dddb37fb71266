// y[t][r] = sum over blocks b of scale_w[r][b] * scale_a[t][b] * sum over k of (q[r][k] - 8) * a[t][k].
//
// Strip: per block of 32 columns 256 bytes of nibbles, then 16 float16 scales (288 bytes). Byte j of
// chunk c (64 bytes) belongs to row j / 4: its low nibble is column 8c + j % 4, its high one 8c + 4 + j % 4.
// Accumulator: int16 within a block (8 products of pairs, at most 8 * 2 * 15 * 127 = 30,480), then
// float32, block by block in order, so a row's bits do not depend on the width of the tile.
#pragma once

#include "../activations.h"
#include "../isa.h"

namespace gs {
constexpr int kQ4_0Bytes = 288;
std::span<const Entry<MatmulTile>> matmul_q4_0_table() noexcept;
}  // namespace gs
