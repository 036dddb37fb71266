// The row kernels in NEON. exp(x): x = n ln 2 + r, |r| <= ln 2 / 2, a Taylor polynomial of degree 7 for r.
#include "rows.h"

#ifdef GS_ARM64
#include <cmath>

#include "../neon.h"
namespace gs::rows {
namespace {

// The first `n` < 4 floats at p, zeros behind them.
inline float32x4_t load_some(const float* p, int64_t n) noexcept {
    float lane[4] = {};
    std::memcpy(lane, p, sizeof(float) * static_cast<size_t>(n));
    return vld1q_f32(lane);
}

inline void store_some(float* p, float32x4_t v, int64_t n) noexcept {
    float lane[4];
    vst1q_f32(lane, v);
    std::memcpy(p, lane, sizeof(float) * static_cast<size_t>(n));
}

inline float32x4_t exp4(float32x4_t x) noexcept {
    const float32x4_t lowest = vdupq_n_f32(-87.33654f), highest = vdupq_n_f32(88.37626f);
    const uint32x4_t vanishes = vcltq_f32(x, lowest), overflows = vcgtq_f32(x, highest);
    const float32x4_t c = vminq_f32(highest, vmaxq_f32(lowest, x));  // NaN stays NaN
    const float32x4_t n = vrndnq_f32(vmulq_f32(c, vdupq_n_f32(1.44269504f)));
    float32x4_t r = vfmsq_f32(c, n, vdupq_n_f32(0.693359375f));  // ln 2 in two parts
    r = vfmsq_f32(r, n, vdupq_n_f32(-2.12194440e-4f));
    float32x4_t p = vdupq_n_f32(1.0f / 5040);
    for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
        p = vfmaq_f32(vdupq_n_f32(factor), p, r);
    const int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
    const uint32x4_t y = vreinterpretq_u32_f32(vmulq_f32(p, vreinterpretq_f32_s32(power)));
    return vbslq_f32(overflows, vdupq_n_f32(__builtin_inff()), vreinterpretq_f32_u32(vbicq_u32(y, vanishes)));
}

// x[i] = change(x[i], i) for all n, four at a time; `change` sees zeros behind the end.
template <class Change>
inline void each_four(float* x, int64_t n, const Change& change) noexcept {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(x + i, change(vld1q_f32(x + i), i));
    if (i < n) store_some(x + i, change(load_some(x + i, n - i), i), n - i);
}

void norm(const float* x, const float* weight, float eps, int n, float* out) noexcept {
    float32x4_t low = vdupq_n_f32(0), high = low;  // the lanes 0 to 3 and 4 to 7
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const float32x4_t first = vld1q_f32(x + i), second = vld1q_f32(x + i + 4);
        low = vfmaq_f32(low, first, first), high = vfmaq_f32(high, second, second);
    }
    if (i < n) {
        float lane[8] = {};
        std::memcpy(lane, x + i, sizeof(float) * static_cast<size_t>(n - i));
        low = vfmaq_f32(low, vld1q_f32(lane), vld1q_f32(lane));
        high = vfmaq_f32(high, vld1q_f32(lane + 4), vld1q_f32(lane + 4));
    }
    const float factor = 1.0f / std::sqrt(total(low, high) / static_cast<float>(n) + eps);
    for (i = 0; i + 4 <= n; i += 4) {
        const float32x4_t v = vmulq_n_f32(vld1q_f32(x + i), factor);
        vst1q_f32(out + i, weight ? vmulq_f32(v, vld1q_f32(weight + i)) : v);
    }
    for (; i < n; ++i) out[i] = weight ? x[i] * factor * weight[i] : x[i] * factor;
}

inline float32x4_t gelu(float32x4_t x) noexcept {
    const float32x4_t cube = vmulq_f32(vmulq_f32(vmulq_n_f32(x, 0.044715f), x), x);
    const float32x4_t u = vmulq_n_f32(vaddq_f32(x, cube), 0.79788456080286536f);
    return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), exp4(vmulq_n_f32(u, -2.0f))));
}

void gelu_mul(float* gate, const float* up, int n) noexcept {
    each_four(gate, n, [&](float32x4_t x, int64_t i) noexcept {
        return vmulq_f32(gelu(x), i + 4 <= n ? vld1q_f32(up + i) : load_some(up + i, n - i));
    });
}

// cap * tanh(x / cap) = cap * (1 - 2 / (1 + exp(2x / cap))); near 0 that loses bits, and x itself is closer.
inline float32x4_t capped(float32x4_t x, float cap) noexcept {
    const float32x4_t one = vdupq_n_f32(1.0f), e = exp4(vmulq_n_f32(x, 2.0f / cap));
    const float32x4_t far = vmulq_n_f32(vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0f), vaddq_f32(one, e))), cap);
    const float32x4_t ratio = vdivq_f32(x, vdupq_n_f32(cap)), square = vmulq_f32(ratio, ratio);
    float32x4_t p = vdupq_n_f32(-17.0f / 315);  // tanh's series: enough below 1/8
    p = vfmaq_f32(vdupq_n_f32(2.0f / 15), p, square);
    p = vfmaq_f32(vdupq_n_f32(-1.0f / 3), p, square);
    const float32x4_t near = vfmaq_f32(x, vmulq_f32(p, square), x);
    return vbslq_f32(vcltq_f32(square, vdupq_n_f32(1.0f / 64)), near, far);
}

void softcap(float* x, int64_t n, float cap) noexcept {
    each_four(x, n, [&](float32x4_t v, int64_t) noexcept { return capped(v, cap); });
}

float exp_sum(float* x, int n, float peak) noexcept {
    const float32x4_t shift = vdupq_n_f32(peak);
    float32x4_t low = vdupq_n_f32(0), high = low;  // the lanes 0 to 3 and 4 to 7
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const float32x4_t first = exp4(vsubq_f32(vld1q_f32(x + i), shift));
        const float32x4_t second = exp4(vsubq_f32(vld1q_f32(x + i + 4), shift));
        vst1q_f32(x + i, first), vst1q_f32(x + i + 4, second);
        low = vaddq_f32(low, first), high = vaddq_f32(high, second);
    }
    if (i < n) {
        float lane[8] = {};
        const size_t rest = sizeof(float) * static_cast<size_t>(n - i);
        std::memcpy(lane, x + i, rest);
        vst1q_f32(lane, exp4(vsubq_f32(vld1q_f32(lane), shift)));
        vst1q_f32(lane + 4, exp4(vsubq_f32(vld1q_f32(lane + 4), shift)));
        std::memcpy(x + i, lane, rest);
        std::memset(lane + (n - i), 0, sizeof lane - rest);
        low = vaddq_f32(low, vld1q_f32(lane)), high = vaddq_f32(high, vld1q_f32(lane + 4));
    }
    return total(low, high);
}

float peak(const float* x, int n) noexcept {
    float32x4_t most = vdupq_n_f32(-__builtin_inff());
    int i = 0;
    for (; i + 4 <= n; i += 4) most = vmaxq_f32(most, vld1q_f32(x + i));  // NaN wins and stays
    float greatest = vmaxvq_f32(most);
    for (; i < n; ++i) greatest = x[i] != x[i] || x[i] > greatest ? x[i] : greatest;
    return greatest;
}

}  // namespace

extern const RowKernels neon;
const RowKernels neon{norm, gelu_mul, softcap, exp_sum, peak};

}  // namespace gs::rows
#endif
