// As matmul_q4_0, with a scale and a minimum per block: w = d * s * q - dmin * m, s and m of 6 bits.
//
// Strip: per 256 columns 16 float16 d, 16 float16 dmin, then for each of its 8 blocks of 32 columns
// 16 uint8 s, 16 uint8 m and 256 bytes of nibbles in matmul_q4_0's order (2368 bytes in all).
// Accumulator: int16 within a block as there, then float32; the minimum's term comes after the scale's.
#pragma once

#include "../activations.h"
#include "../isa.h"

namespace gs {
constexpr int kQ4_kBytes = 2368;
std::span<const Entry<MatmulTile>> matmul_q4_k_table() noexcept;
}  // namespace gs
