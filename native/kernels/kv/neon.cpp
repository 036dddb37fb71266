// The K/V kernels in NEON.
#include "kv.h"

#ifdef GS_ARM64
#include "../neon.h"
namespace gs::kv {
namespace {

uint16_t half_of(float x) noexcept { return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(x))), 0); }

void store_halves(const float* x, int n, uint8_t* out) noexcept {
    for (int i = 0; i < n; i += 4) {
        vst1_u8(out + 2 * i, vreinterpret_u8_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    }
}

void store_block(const float* x, uint8_t* out) noexcept {
    const float32x4_t zero = vdupq_n_f32(0);
    float32x4_t v[8], peaks = zero, checks = zero;
    for (int i = 0; i < 8; ++i) {
        v[i] = vld1q_f32(x + 4 * i);
        peaks = vmaxnmq_f32(peaks, vabsq_f32(v[i]));  // of a NaN, the other
        checks = vaddq_f32(checks, vmulq_f32(v[i], zero));
    }
    const uint16_t bits = half_of(vmaxvq_f32(peaks) / 127.0f + vaddvq_f32(checks));
    std::memcpy(out, &bits, 2);
    const float kept = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
    const float inverse = kept > 0 ? 1.0f / kept : 0.0f;
    int16x4_t whole[8];
    for (int i = 0; i < 8; ++i) {
        const float32x4_t held = vmaxnmq_f32(vmulq_n_f32(v[i], inverse), vdupq_n_f32(-127.0f));  // of a NaN, -127
        whole[i] = vmovn_s32(vcvtnq_s32_f32(vminq_f32(held, vdupq_n_f32(127.0f))));
    }
    for (int i = 0; i < 4; ++i) {
        vst1_s8(reinterpret_cast<int8_t*>(out) + 2 + 8 * i, vmovn_s16(vcombine_s16(whole[2 * i], whole[2 * i + 1])));
    }
}

void store(KvFormat format, const float* x, int n, uint8_t* out) noexcept {
    if (format == KvFormat::f16) return store_halves(x, n, out);
    for (int b = 0; b < n / kKvBlock; ++b) store_block(x + b * kKvBlock, out + b * kKvBlockBytes);
}

template <bool Weighted>
inline void put(float32x4_t x, const float* weight, float* out) noexcept {
    vst1q_f32(out, Weighted ? vmulq_f32(x, vld1q_f32(weight)) : x);
}

template <bool Weighted>
inline void expand_row(KvFormat format, const uint8_t* row, int dim, const float* weight, float* out) noexcept {
    if (format == KvFormat::f16) {
        for (int h = 0; h < dim; h += 4) put<Weighted>(halves(row + 2 * h), weight + h, out + h);
        return;
    }
    for (int h = 0; h < dim; h += kKvBlock, row += kKvBlockBytes) {
        uint16_t bits;
        std::memcpy(&bits, row, 2);
        const float scale = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
        for (int i = 0; i < kKvBlock; i += 8) {
            const int16x8_t eight = vmovl_s8(vld1_s8(reinterpret_cast<const int8_t*>(row) + 2 + i));
            const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(eight)));
            const float32x4_t high = vcvtq_f32_s32(vmovl_s16(vget_high_s16(eight)));
            put<Weighted>(vmulq_n_f32(low, scale), weight + h + i, out + h + i);
            put<Weighted>(vmulq_n_f32(high, scale), weight + h + i + 4, out + h + i + 4);
        }
    }
}

void expand(KvFormat format, const uint8_t* from, int64_t step, int dim, int keys, const float* weight, float* out,
            int64_t stride) noexcept {
    for (int j = 0; j < keys; ++j, from += step, out += stride) {
        if (weight) {
            expand_row<true>(format, from, dim, weight, out);
        } else {
            expand_row<false>(format, from, dim, out, out);
        }
    }
}

void turn(float* x, int64_t stride, int dim, int keys, const float* cosine, const float* sine, int pairs) noexcept {
    for (int j = 0; j < keys; ++j, cosine += pairs, sine += pairs) {
        float *head = x + j * stride, *other = head + dim / 2;
        int i = 0;
        for (; i + 4 <= pairs; i += 4) {
            const float32x4_t a = vld1q_f32(head + i), b = vld1q_f32(other + i);
            const float32x4_t c = vld1q_f32(cosine + i), s = vld1q_f32(sine + i);
            vst1q_f32(head + i, vsubq_f32(vmulq_f32(a, c), vmulq_f32(b, s)));
            vst1q_f32(other + i, vaddq_f32(vmulq_f32(b, c), vmulq_f32(a, s)));
        }
        for (; i < pairs; ++i) {
            const float a = head[i], b = other[i];
            head[i] = a * cosine[i] - b * sine[i];
            other[i] = b * cosine[i] + a * sine[i];
        }
    }
}

}  // namespace

extern const KvKernels neon;
const KvKernels neon{store, expand, turn};

}  // namespace gs::kv
#endif
