// y[t][r] = sum over blocks b of scale_w[r][b] * scale_a[t][b] * sum over k of q[r][k] * a[t][k].
//
// Strip: per block of 32 columns 512 bytes of int8, then 16 float16 scales (544 bytes). Byte j of chunk c
// (64 bytes) is row j / 4, column 4c + j % 4. Weights may be -128; accumulator int32 within a block (at
// most 32 * 128 * 127), then float32, block by block in order.
#pragma once

#include "../activations.h"
#include "../isa.h"

namespace gs {
constexpr int kQ8_0Bytes = 544;
std::span<const Entry<MatmulTile>> matmul_q8_0_table() noexcept;
}  // namespace gs
