// Rows of keys and values between float32 and the formats they are cached in.
//
// store:  n float32 values as float16, nearest even, or as q8_0: blocks of 32, a float16 d = max|x| / 127
//         and 32 int8 q = x / d, nearest even, within [-127, 127]. A value that is no number makes d none.
// expand: `keys` rows of dim values that begin `step` bytes apart, into rows that begin `stride` float32
//         apart; every value (q8_0: q * d) times its weight [dim], NULL: 1.
// turn:   in place, row j of `keys`: the pairs (i, i + dim/2), i < pairs, by cosine and sine [keys][pairs].
// q8_0: n and dim are multiples of 32, otherwise of 8. Class: exact (which NaN a NaN becomes is left open).
#pragma once

#include "../isa.h"

namespace gs {

enum class KvFormat : int { f16 = 0, q8_0 = 1 };

constexpr int kKvBlock = 32, kKvBlockBytes = 34;

// Bytes of n values.
constexpr int64_t kv_bytes(KvFormat format, int64_t n) noexcept {
    return format == KvFormat::f16 ? 2 * n : n / kKvBlock * kKvBlockBytes;
}

struct KvKernels {
    void (*store)(KvFormat format, const float* x, int n, uint8_t* out) noexcept;
    void (*expand)(KvFormat format, const uint8_t* from, int64_t step, int dim, int keys, const float* weight,
                   float* out, int64_t stride) noexcept;
    void (*turn)(float* x, int64_t stride, int dim, int keys, const float* cosine, const float* sine,
                 int pairs) noexcept;
};

std::span<const Entry<KvKernels>> kv_table() noexcept;

}  // namespace gs
