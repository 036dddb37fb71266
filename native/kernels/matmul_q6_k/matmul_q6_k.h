// w = d * s * (q - 32), q of 6 bits, s an int8 per 16 columns, d a float16 per 256.
//
// Strip: per 256 columns 16 float16 d, then for each of its 8 blocks of 32 columns: s [2][16] int8,
// 256 bytes of low nibbles in matmul_q4_0's order, 128 bytes of high bits: byte j of half g holds those of
// chunk 2g (bits 0-1 the low nibble's, 2-3 the high one's) and of chunk 2g + 1 (bits 4-5, 6-7). 3360 bytes.
// Accumulator: int16 within a chunk (at most 4 * 63 * 127 = 32,004), int32 within a half, then float32.
#pragma once

#include "../activations.h"
#include "../isa.h"

namespace gs {
constexpr int kQ6_kBytes = 3360;
std::span<const Entry<MatmulTile>> matmul_q6_k_table() noexcept;
}  // namespace gs
