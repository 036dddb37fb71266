// Rows of a file into the strips the kernels read. What has no kernel of its own becomes q8_0 first.
#include <cmath>
#include <cstring>
#include <vector>

#include "../kernels/half.h"
#include "../kernels/matmul_q4_0/matmul_q4_0.h"
#include "../kernels/matmul_q4_k/matmul_q4_k.h"
#include "../kernels/matmul_q6_k/matmul_q6_k.h"
#include "../kernels/matmul_q8_0/matmul_q8_0.h"
#include "weights.h"

namespace gs {
namespace {

// Four neighbouring bytes as one word: nibbles and crumbs of four columns move together.
inline uint32_t load(const uint8_t* from) noexcept {
    uint32_t word;
    std::memcpy(&word, from, 4);
    return word;
}

inline void store(uint8_t* to, uint32_t word) noexcept { std::memcpy(to, &word, 4); }

// Columns 8 c to 8 c + 7 of row r in matmul_q4_0's order, from two words of nibbles.
inline void put_nibbles(uint8_t* out, int r, int c, uint32_t first, uint32_t second) noexcept {
    store(out + 64 * c + 4 * r, (first & 0x0F0F0F0F) | (second & 0x0F0F0F0F) << 4);
}

void q4_0(const uint8_t* block, int r, uint8_t* out) noexcept {
    std::memcpy(out + 256 + 2 * r, block, 2);
    for (int c = 0; c < 2; ++c) {
        const uint32_t first = load(block + 2 + 8 * c), second = load(block + 6 + 8 * c);
        put_nibbles(out, r, c, first, second);
        put_nibbles(out, r, c + 2, first >> 4, second >> 4);
    }
}

void q8_0(const uint8_t* block, int r, uint8_t* out) noexcept {
    std::memcpy(out + 512 + 2 * r, block, 2);
    for (int k = 0; k < 32; k += 4) store(out + 16 * k + 4 * r, load(block + 2 + k));
}

void q4_k(const uint8_t* super, int r, uint8_t* out) noexcept {
    std::memcpy(out + 2 * r, super, 2);
    std::memcpy(out + 32 + 2 * r, super + 2, 2);
    for (int j = 0; j < 8; ++j) {
        uint8_t* block = out + 64 + 288 * j;
        int scale, least;
        scale_min(super + 4, j, scale, least);
        block[r] = static_cast<uint8_t>(scale), block[16 + r] = static_cast<uint8_t>(least);
        const uint8_t* q = super + 16 + 32 * (j / 2);
        const int shift = 4 * (j % 2);
        for (int c = 0; c < 4; ++c) put_nibbles(block + 32, r, c, load(q + 8 * c) >> shift, load(q + 8 * c + 4) >> shift);
    }
}

void q6_k(const uint8_t* super, int r, uint8_t* out) noexcept {
    std::memcpy(out + 2 * r, super + 208, 2);
    for (int j = 0; j < 8; ++j) {  // blocks of 32 columns
        uint8_t* block = out + 32 + 416 * j;
        const int group = j / 4, part = j % 4, shift = 4 * (part / 2);
        const uint8_t* low = super + 64 * group + 32 * (part % 2);
        const uint8_t* high = super + 128 + 32 * group;
        block[r] = super[192 + 2 * j], block[16 + r] = super[193 + 2 * j];
        for (int c = 0; c < 4; ++c) put_nibbles(block + 32, r, c, load(low + 8 * c) >> shift, load(low + 8 * c + 4) >> shift);
        for (int half = 0; half < 2; ++half) {
            uint32_t crumbs = 0;
            for (int g = 0; g < 4; ++g) crumbs |= (load(high + 16 * half + 4 * g) >> (2 * part) & 0x03030303) << (2 * g);
            store(block + 288 + 64 * half + 4 * r, crumbs);
        }
    }
}

using PackBlock = void (*)(const uint8_t*, int, uint8_t*) noexcept;

PackBlock packer(int32_t format) noexcept {
    switch (format) {
        case kQ4_0: return q4_0;
        case kQ4_K: return q4_k;
        case kQ6_K: return q6_k;
        default: return q8_0;
    }
}

// Blocks of 32 integers times one float16, which comes first: they are q8_0 of the same scale, and no value moves.
bool keeps_scales(int32_t format) noexcept { return format == kQ5_0 || format == kIq4Nl; }

// float32 values as q8_0 blocks of a file (34 bytes per 32); `scales` NULL: what the greatest of a block asks for, else
// the float16 at the beginning of each `step` bytes.
void to_q8_0(const float* x, int64_t columns, const uint8_t* scales, int64_t step, uint8_t* out) noexcept {
    for (int64_t k = 0; k < columns; k += 32, out += 34) {
        float peak = 0;
        for (int i = 0; i < 32; ++i) peak = std::fmax(peak, std::fabs(x[k + i]));
        uint16_t half = float_to_half(peak / 127.0f);
        if (scales) std::memcpy(&half, scales + k / 32 * step, 2);
        const float scale = half_to_float(half);
        std::memcpy(out, &half, 2);
        for (int i = 0; i < 32; ++i) {
            const float q = scale != 0 ? std::nearbyint(x[k + i] / scale) : 0.0f;
            out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::fmax(-127.0f, std::fmin(127.0f, q))));
        }
    }
}

}  // namespace

PackedFormat packed_format(int32_t format) noexcept {
    if (file_format(format).block <= 1) return {format, 0, 0, nullptr};
    static const MatmulTile q4_0_run = pick(matmul_q4_0_table(), isa()), q8_0_run = pick(matmul_q8_0_table(), isa());
    static const MatmulTile q4_k_run = pick(matmul_q4_k_table(), isa()), q6_k_run = pick(matmul_q6_k_table(), isa());
    switch (format) {
        case kQ4_0: return {kQ4_0, 32, kQ4_0Bytes, q4_0_run};
        case kQ4_K: return {kQ4_K, 256, kQ4_kBytes, q4_k_run};
        case kQ6_K: return {kQ6_K, 256, kQ6_kBytes, q6_k_run};
        default: return {kQ8_0, 32, kQ8_0Bytes, q8_0_run};
    }
}

void pack(int32_t format, const uint8_t* source, int64_t rows, int64_t columns, uint8_t* target) {
    const FileFormat file = file_format(format);
    const PackedFormat packed = packed_format(format);
    const int64_t row_bytes = columns / file.block * file.bytes, strip = strip_bytes(packed, columns);
    const PackBlock put = packer(packed.format);
    const bool converts = packed.format != format;
    const int in_bytes = file_format(packed.format).bytes;
    std::vector<float> values(converts ? columns : 0);
    std::vector<uint8_t> converted(converts ? columns / 32 * 34 : 0);
    if (rows % kStrip) std::memset(target + rows / kStrip * strip, 0, static_cast<size_t>(strip));
    for (int64_t row = 0; row < rows; ++row) {
        const uint8_t* in = source + row * row_bytes;
        if (converts) {
            unpack_row(format, in, columns, values.data());
            to_q8_0(values.data(), columns, keeps_scales(format) ? in : nullptr, file.bytes, converted.data());
            in = converted.data();
        }
        uint8_t* out = target + row / kStrip * strip;
        for (int64_t k = 0; k < columns; k += packed.columns, in += in_bytes, out += packed.bytes)
            put(in, static_cast<int>(row % kStrip), out);
    }
}

}  // namespace gs
