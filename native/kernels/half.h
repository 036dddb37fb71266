// float16 and bfloat16 to float32 and back, without hardware help: the definition the scalar kernels use.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace gs {

inline float half_to_float(uint16_t h) noexcept {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 31u;
    const uint32_t mantissa = h & 1023u;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
    if (exponent) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    const float tiny = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact
    return sign ? -tiny : tiny;
}

// The float16 that lies at p, at any alignment.
inline float half_at(const uint8_t* p) noexcept {
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return half_to_float(bits);
}

// Nearest, ties to even.
inline uint16_t float_to_half(float x) noexcept {
    const uint32_t bits = std::bit_cast<uint32_t>(x), sign = (bits >> 16) & 0x8000u, low = bits & 0x7fffffffu;
    if (low >= 0x7f800000u) return static_cast<uint16_t>(sign | (low > 0x7f800000u ? 0x7e00u : 0x7c00u));
    if (low >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (low < 0x38800000u) {  // subnormal: adding 0.5 leaves the rounded mantissa in the low bits
        const float shifted = std::bit_cast<float>(low) + 0.5f;
        return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
    }
    const uint32_t odd = (low >> 13) & 1u;
    return static_cast<uint16_t>(sign | ((low - 0x38000000u + 0xfffu + odd) >> 13));
}

inline float bfloat_to_float(uint16_t b) noexcept {
    return std::bit_cast<float>(static_cast<uint32_t>(b) << 16);
}

}  // namespace gs
