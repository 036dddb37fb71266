// Matrices as the forward sees them: which kernel reads a format, how a file's rows become strips.
//
// Formats are ggml types. f32, f16 and bf16 are read as they lie in the file; quantized ones are packed
// into strips of 16 rows (kernels/matmul_*.h): q4_0, q8_0, q4_k and q6_k bit for bit, every other one
// as q8_0. A table from which only single rows are taken stays as it is.
#pragma once

#include <unistd.h>

#include <cstdint>

#include "../include/layout.h"
#include "../kernels/activations.h"
#include "../kernels/matmul_float/matmul_float.h"

namespace gs {

enum Ggml : int32_t {
    kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ5_0 = 6, kQ5_1 = 7, kQ8_0 = 8,
    kQ4_K = 12, kQ5_K = 13, kQ6_K = 14, kIq4Nl = 20, kIq4Xs = 23, kBf16 = 30,
};

// How a file stores a format: `block` values in `bytes`; block 0: unknown here.
struct FileFormat {
    int block;
    int bytes;
};
FileFormat file_format(int32_t format) noexcept;

// How the kernels read a packed format: a strip of 16 rows takes `bytes` per `columns` columns.
struct PackedFormat {
    int32_t format;
    int columns;
    int bytes;
    MatmulTile run;
};

// columns 0: the format is not packed.
PackedFormat packed_format(int32_t format) noexcept;

// Bytes of one strip of a packed matrix of that many columns.
inline int64_t strip_bytes(const PackedFormat& f, int64_t columns) noexcept { return columns / f.columns * f.bytes; }

// The 6-bit scale and minimum of sub-block j of q4_k and q5_k, from their 12 bytes.
void scale_min(const uint8_t* packed, int j, int& scale, int& least) noexcept;

// One row of a table in its file's format; `columns` is whole blocks.
void unpack_row(int32_t format, const uint8_t* row, int64_t columns, float* out) noexcept;

// Single rows of a table: read from its file where that is known. Touching them in the file's map instead would
// bring much of the file around them into memory, as pages of ours.
class TableRow {
public:
    // `count` bytes from `start` of the table; valid until the next call. What cannot be read is mapped.
    const uint8_t* at(const gs_matrix& table, int64_t start, int64_t count) noexcept {
        if (table.file > 0 && count <= static_cast<int64_t>(sizeof held_) &&
            pread(table.file - 1, held_, static_cast<size_t>(count), table.offset + start) == count)
            return held_;
        return static_cast<const uint8_t*>(table.data) + start;
    }

private:
    alignas(64) uint8_t held_[1 << 16];
};

// Rows of a file into strips; missing rows of the last strip become zeros.
void pack(int32_t format, const uint8_t* source, int64_t rows, int64_t columns, uint8_t* target);

}  // namespace gs
