// Rows of a file to float32: the formats of ggml by their definition. The layouts are those that
// src/gemstead/weights/unpack.py states; tests compare the two bit for bit.
#include <cstring>

#include "../kernels/half.h"
#include "weights.h"

namespace gs {
namespace {

// Values of the non-linear 4-bit formats; ggml's kvalues_iq4nl.
constexpr int kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void q4_0(const uint8_t* b, float* y) noexcept {
    const float d = half_at(b);
    for (int i = 0; i < 16; ++i) {
        y[i] = static_cast<float>((b[2 + i] & 15) - 8) * d;
        y[16 + i] = static_cast<float>((b[2 + i] >> 4) - 8) * d;
    }
}

void q4_1(const uint8_t* b, float* y) noexcept {
    const float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 16; ++i) {
        y[i] = static_cast<float>(b[4 + i] & 15) * d + m;
        y[16 + i] = static_cast<float>(b[4 + i] >> 4) * d + m;
    }
}

// The fifth bits of q5_0 and q5_1 lie in one 32-bit word, bit i for value i.
// Values before scale and minimum, less `offset`.
void q5(const uint8_t* bits, const uint8_t* nibbles, int offset, float* y) noexcept {
    uint32_t high;
    std::memcpy(&high, bits, 4);
    for (int i = 0; i < 16; ++i) {
        const int low = (nibbles[i] & 15) | static_cast<int>((high >> i & 1) << 4);
        const int top = (nibbles[i] >> 4) | static_cast<int>((high >> (i + 16) & 1) << 4);
        y[i] = static_cast<float>(low - offset);
        y[16 + i] = static_cast<float>(top - offset);
    }
}

void q5_0(const uint8_t* b, float* y) noexcept {
    q5(b + 2, b + 6, 16, y);
    const float d = half_at(b);
    for (int i = 0; i < 32; ++i) y[i] *= d;  // no "+ 0", which would lose the sign of a zero
}

void q5_1(const uint8_t* b, float* y) noexcept {
    q5(b + 4, b + 8, 0, y);
    const float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 32; ++i) y[i] = y[i] * d + m;
}

void q8_0(const uint8_t* b, float* y) noexcept {
    const float d = half_at(b);
    for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(static_cast<int8_t>(b[2 + i])) * d;
}

// q4_k, and q5_k with `high` set: nibbles of 64 values a group, low halves first.
void q45_k(const uint8_t* b, const uint8_t* high, const uint8_t* q, float* y) noexcept {
    const float d = half_at(b), dmin = half_at(b + 2);
    for (int j = 0; j < 8; ++j) {
        int scale, least;
        scale_min(b + 4, j, scale, least);
        const float step = d * static_cast<float>(scale), low = dmin * static_cast<float>(least);
        for (int i = 0; i < 32; ++i) {
            int v = q[32 * (j / 2) + i] >> (4 * (j % 2)) & 15;
            if (high) v |= (high[i] >> j & 1) << 4;
            y[32 * j + i] = step * static_cast<float>(v) - low;
        }
    }
}

void q6_k(const uint8_t* b, float* y) noexcept {
    const float d = half_at(b + 208);
    const auto* scale = reinterpret_cast<const int8_t*>(b + 192);
    for (int i = 0; i < 256; ++i) {
        const int group = i / 128, j = i % 128, part = j / 32, at = j % 32;
        const int nibble = b[64 * group + 32 * (part % 2) + at] >> (4 * (part / 2)) & 15;
        const int crumb = b[128 + 32 * group + at] >> (2 * part) & 3;
        const float step = d * static_cast<float>(scale[i / 16]);
        y[i] = step * static_cast<float>((nibble | crumb << 4) - 32);
    }
}

void iq4_nl(const uint8_t* b, float* y) noexcept {
    const float d = half_at(b);
    for (int i = 0; i < 16; ++i) {
        y[i] = d * static_cast<float>(kNonLinear[b[2 + i] & 15]);
        y[16 + i] = d * static_cast<float>(kNonLinear[b[2 + i] >> 4]);
    }
}

void iq4_xs(const uint8_t* b, float* y) noexcept {
    const float d = half_at(b);
    uint16_t high;
    std::memcpy(&high, b + 2, 2);
    for (int j = 0; j < 8; ++j) {
        const int scale = ((b[4 + j / 2] >> (4 * (j % 2))) & 15) | (high >> (2 * j) & 3) << 4;
        const float step = d * static_cast<float>(scale - 32);
        for (int i = 0; i < 16; ++i) {
            y[32 * j + i] = step * static_cast<float>(kNonLinear[b[8 + 16 * j + i] & 15]);
            y[32 * j + 16 + i] = step * static_cast<float>(kNonLinear[b[8 + 16 * j + i] >> 4]);
        }
    }
}

void block_of(int32_t format, const uint8_t* b, float* y) noexcept {
    switch (format) {
        case kF32: std::memcpy(y, b, 4); return;
        case kF16: *y = half_at(b); return;
        case kBf16: {
            uint16_t bits;
            std::memcpy(&bits, b, 2);
            *y = bfloat_to_float(bits);
            return;
        }
        case kQ4_0: return q4_0(b, y);
        case kQ4_1: return q4_1(b, y);
        case kQ5_0: return q5_0(b, y);
        case kQ5_1: return q5_1(b, y);
        case kQ8_0: return q8_0(b, y);
        case kQ4_K: return q45_k(b, nullptr, b + 16, y);
        case kQ5_K: return q45_k(b, b + 16, b + 48, y);
        case kQ6_K: return q6_k(b, y);
        case kIq4Nl: return iq4_nl(b, y);
        case kIq4Xs: return iq4_xs(b, y);
        default: return;
    }
}

}  // namespace

void scale_min(const uint8_t* s, int j, int& scale, int& least) noexcept {
    if (j < 4) {
        scale = s[j] & 63, least = s[j + 4] & 63;
    } else {
        scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        least = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
    }
}

FileFormat file_format(int32_t format) noexcept {
    switch (format) {
        case kF32: return {1, 4};
        case kF16:
        case kBf16: return {1, 2};
        case kQ4_0:
        case kIq4Nl: return {32, 18};
        case kQ4_1: return {32, 20};
        case kQ5_0: return {32, 22};
        case kQ5_1: return {32, 24};
        case kQ8_0: return {32, 34};
        case kQ4_K: return {256, 144};
        case kQ5_K: return {256, 176};
        case kQ6_K: return {256, 210};
        case kIq4Xs: return {256, 136};
        default: return {0, 0};
    }
}

void unpack_row(int32_t format, const uint8_t* row, int64_t columns, float* out) noexcept {
    const FileFormat f = file_format(format);
    for (int64_t k = 0; k < columns; k += f.block, row += f.bytes) block_of(format, row, out + k);
}

}  // namespace gs
