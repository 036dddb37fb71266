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

// Sets the nibble of (row r, column k) in 256 zeroed bytes of matmul_q4_0's order.
inline void put_nibble(uint8_t* out, int r, int k, int value) noexcept {
    out[64 * (k / 8) + 4 * r + k % 4] |= static_cast<uint8_t>(value << (k % 8 < 4 ? 0 : 4));
}

void q4_0(const uint8_t* block, int r, uint8_t* out) noexcept {
    std::memcpy(out + 256 + 2 * r, block, 2);
    for (int i = 0; i < 16; ++i) {
        put_nibble(out, r, i, block[2 + i] & 15);
        put_nibble(out, r, 16 + i, block[2 + i] >> 4);
    }
}

void q8_0(const uint8_t* block, int r, uint8_t* out) noexcept {
    std::memcpy(out + 512 + 2 * r, block, 2);
    for (int k = 0; k < 32; ++k) out[64 * (k / 4) + 4 * r + k % 4] = block[2 + k];
}

void q4_k(const uint8_t* super, int r, uint8_t* out) noexcept {
    std::memcpy(out + 2 * r, super, 2);
    std::memcpy(out + 32 + 2 * r, super + 2, 2);
    for (int j = 0; j < 8; ++j) {
        uint8_t* block = out + 64 + 288 * j;
        int scale, least;
        scale_min(super + 4, j, scale, least);
        block[r] = static_cast<uint8_t>(scale), block[16 + r] = static_cast<uint8_t>(least);
        for (int i = 0; i < 32; ++i)
            put_nibble(block + 32, r, i, super[16 + 32 * (j / 2) + i] >> (4 * (j % 2)) & 15);
    }
}

void q6_k(const uint8_t* super, int r, uint8_t* out) noexcept {
    std::memcpy(out + 2 * r, super + 208, 2);
    for (int i = 0; i < 256; ++i) {
        const int group = i / 128, part = i % 128 / 32, at = i % 32, k = i % 32;
        const int nibble = super[64 * group + 32 * (part % 2) + at] >> (4 * (part / 2)) & 15;
        const int crumb = super[128 + 32 * group + at] >> (2 * part) & 3;
        uint8_t* block = out + 32 + 416 * (i / 32);
        put_nibble(block + 32, r, k, nibble);
        const int chunk = k / 8, high = k % 8 >= 4;
        block[288 + 64 * (chunk / 2) + 4 * r + k % 4] |=
            static_cast<uint8_t>(crumb << (4 * (chunk % 2) + 2 * high));
        if (i % 16 == 0) block[16 * (i / 16 % 2) + r] = super[192 + i / 16];
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

// float32 values as q8_0 blocks of a file (34 bytes per 32).
void to_q8_0(const float* x, int64_t columns, uint8_t* out) noexcept {
    for (int64_t k = 0; k < columns; k += 32, out += 34) {
        float peak = 0;
        for (int i = 0; i < 32; ++i) peak = std::fmax(peak, std::fabs(x[k + i]));
        const uint16_t half = float_to_half(peak / 127.0f);
        const float scale = half_to_float(half);
        std::memcpy(out, &half, 2);
        for (int i = 0; i < 32; ++i) {
            const float q = scale > 0 ? std::nearbyint(x[k + i] / scale) : 0.0f;
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
    std::memset(target, 0, static_cast<size_t>((rows + kStrip - 1) / kStrip * strip));
    for (int64_t row = 0; row < rows; ++row) {
        const uint8_t* in = source + row * row_bytes;
        if (converts) {
            unpack_row(format, in, columns, values.data());
            to_q8_0(values.data(), columns, converted.data());
            in = converted.data();
        }
        uint8_t* out = target + row / kStrip * strip;
        for (int64_t k = 0; k < columns; k += packed.columns, in += in_bytes, out += packed.bytes)
            put(in, static_cast<int>(row % kStrip), out);
    }
}

}  // namespace gs
