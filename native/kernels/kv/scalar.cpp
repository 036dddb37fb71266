// The K/V kernels by their definitions.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../half.h"
#include "kv.h"

namespace gs::kv {
namespace {

void put_half(float x, uint8_t* at) noexcept {
    const uint16_t bits = float_to_half(x);
    std::memcpy(at, &bits, 2);
}

void store_block(const float* x, uint8_t* out) noexcept {
    float peak = 0, check = 0;
    for (int i = 0; i < kKvBlock; ++i) {
        peak = std::max(peak, std::fabs(x[i]));  // of a NaN, what was there
        check += x[i] * 0.0f;                    // NaN unless finite
    }
    put_half(peak / 127.0f + check, out);
    const float scale = half_at(out), inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (int i = 0; i < kKvBlock; ++i) {
        const float scaled = x[i] * inverse;
        const float held = std::min(127.0f, scaled > -127.0f ? scaled : -127.0f);
        out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::nearbyintf(held)));
    }
}

void store(KvFormat format, const float* x, int n, uint8_t* out) noexcept {
    if (format == KvFormat::f16) {
        for (int i = 0; i < n; ++i) put_half(x[i], out + 2 * i);
    } else {
        for (int b = 0; b < n / kKvBlock; ++b) store_block(x + b * kKvBlock, out + b * kKvBlockBytes);
    }
}

float value_of(KvFormat format, const uint8_t* row, int h) noexcept {
    if (format == KvFormat::f16) return half_at(row + 2 * h);
    const uint8_t* block = row + h / kKvBlock * kKvBlockBytes;
    return static_cast<float>(static_cast<int8_t>(block[2 + h % kKvBlock])) * half_at(block);
}

void expand(KvFormat format, const uint8_t* from, int64_t step, int dim, int keys, const float* weight, float* out,
            int64_t stride) noexcept {
    for (int j = 0; j < keys; ++j) {
        for (int h = 0; h < dim; ++h) {
            const float x = value_of(format, from + j * step, h);
            out[j * stride + h] = weight ? x * weight[h] : x;
        }
    }
}

void turn(float* x, int64_t stride, int dim, int keys, const float* cosine, const float* sine, int pairs) noexcept {
    for (int j = 0; j < keys; ++j, cosine += pairs, sine += pairs) {
        float *head = x + j * stride, *other = head + dim / 2;
        for (int i = 0; i < pairs; ++i) {
            const float a = head[i], b = other[i];
            head[i] = a * cosine[i] - b * sine[i];
            other[i] = b * cosine[i] + a * sine[i];
        }
    }
}

}  // namespace

extern const KvKernels scalar;
const KvKernels scalar{store, expand, turn};

}  // namespace gs::kv
