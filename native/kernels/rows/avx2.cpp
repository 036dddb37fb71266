// The row kernels in AVX2. exp(x): x = n ln 2 + r, |r| <= ln 2 / 2, a Taylor polynomial of degree 7 for r.
#include "rows.h"

#ifdef GS_X86
#include <cstring>

#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::rows {
namespace {

// The first `n` < 8 floats at p, zeros behind them.
inline __m256 load_some(const float* p, int64_t n) noexcept {
    alignas(32) float lane[8] = {};
    std::memcpy(lane, p, n * 4);
    return _mm256_load_ps(lane);
}

inline void store_some(float* p, __m256 v, int64_t n) noexcept {
    alignas(32) float lane[8];
    _mm256_store_ps(lane, v);
    std::memcpy(p, lane, n * 4);
}

inline __m256 exp8(__m256 x) noexcept {
    const __m256 lowest = _mm256_set1_ps(-87.33654f), highest = _mm256_set1_ps(88.37626f);
    const __m256 vanishes = _mm256_cmp_ps(x, lowest, _CMP_LT_OQ), overflows = _mm256_cmp_ps(x, highest, _CMP_GT_OQ);
    // max and min return their second operand for NaN: NaN stays NaN.
    const __m256 c = _mm256_min_ps(highest, _mm256_max_ps(lowest, x));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(c, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), c);  // ln 2 in two parts
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(factor));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    __m256 y = _mm256_mul_ps(p, _mm256_castsi256_ps(power));
    y = _mm256_andnot_ps(vanishes, y);
    return _mm256_blendv_ps(y, _mm256_set1_ps(__builtin_inff()), overflows);
}

void norm(const float* x, const float* weight, float eps, int n, float* out) noexcept {
    __m256 sum = _mm256_setzero_ps();
    const int whole = n / 8 * 8;
    for (int i = 0; i < whole; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        sum = _mm256_fmadd_ps(v, v, sum);
    }
    if (n > whole) {
        const __m256 v = load_some(x + whole, n - whole);
        sum = _mm256_fmadd_ps(v, v, sum);
    }
    const float mean = total(sum) / static_cast<float>(n) + eps;
    const float factor = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean)));
    const __m256 scale = _mm256_set1_ps(factor);
    for (int i = 0; i < whole; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);
        if (weight) v = _mm256_mul_ps(v, _mm256_loadu_ps(weight + i));
        _mm256_storeu_ps(out + i, v);
    }
    for (int i = whole; i < n; ++i) out[i] = weight ? x[i] * factor * weight[i] : x[i] * factor;
}

inline __m256 gelu(__m256 x) noexcept {
    const __m256 cube = _mm256_mul_ps(_mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(0.044715f), x), x), x);
    const __m256 u = _mm256_mul_ps(_mm256_set1_ps(0.79788456080286536f), _mm256_add_ps(x, cube));
    const __m256 e = exp8(_mm256_mul_ps(_mm256_set1_ps(-2.0f), u));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

void gelu_mul(float* gate, const float* up, int n) noexcept {
    const int whole = n / 8 * 8;
    for (int i = 0; i < whole; i += 8) {
        const __m256 y = _mm256_mul_ps(gelu(_mm256_loadu_ps(gate + i)), _mm256_loadu_ps(up + i));
        _mm256_storeu_ps(gate + i, y);
    }
    if (const int rest = n - whole) {
        const __m256 y = _mm256_mul_ps(gelu(load_some(gate + whole, rest)), load_some(up + whole, rest));
        store_some(gate + whole, y, rest);
    }
}

// cap * tanh(x / cap) = cap * (1 - 2 / (1 + exp(2x / cap))); near 0 that loses bits, and x itself is closer.
inline __m256 capped(__m256 x, __m256 cap, __m256 twice) noexcept {
    const __m256 one = _mm256_set1_ps(1.0f), e = exp8(_mm256_mul_ps(x, twice));
    const __m256 far = _mm256_mul_ps(
        cap, _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(one, e))));
    const __m256 ratio = _mm256_div_ps(x, cap), square = _mm256_mul_ps(ratio, ratio);
    __m256 p = _mm256_set1_ps(-17.0f / 315);  // tanh's series: enough below 1/8
    p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(2.0f / 15));
    p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(-1.0f / 3));
    const __m256 near = _mm256_fmadd_ps(_mm256_mul_ps(p, square), x, x);
    const __m256 small = _mm256_cmp_ps(square, _mm256_set1_ps(1.0f / 64), _CMP_LT_OQ);
    return _mm256_blendv_ps(far, near, small);
}

void softcap(float* x, int64_t n, float cap) noexcept {
    const __m256 whole_cap = _mm256_set1_ps(cap), twice = _mm256_set1_ps(2.0f / cap);
    const int64_t whole = n / 8 * 8;
    for (int64_t i = 0; i < whole; i += 8)
        _mm256_storeu_ps(x + i, capped(_mm256_loadu_ps(x + i), whole_cap, twice));
    if (n > whole) store_some(x + whole, capped(load_some(x + whole, n - whole), whole_cap, twice), n - whole);
}

float exp_sum(float* x, int n, float peak) noexcept {
    const __m256 shift = _mm256_set1_ps(peak);
    __m256 sum = _mm256_setzero_ps();
    const int whole = n / 8 * 8;
    for (int i = 0; i < whole; i += 8) {
        const __m256 e = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), shift));
        _mm256_storeu_ps(x + i, e);
        sum = _mm256_add_ps(sum, e);
    }
    if (const int rest = n - whole) {
        alignas(32) float lane[8] = {};
        store_some(lane, exp8(_mm256_sub_ps(load_some(x + whole, rest), shift)), rest);
        std::memcpy(x + whole, lane, rest * 4);
        sum = _mm256_add_ps(sum, _mm256_load_ps(lane));
    }
    return total(sum);
}

float peak(const float* x, int n) noexcept {
    __m256 most = _mm256_set1_ps(-__builtin_inff()), strange = _mm256_setzero_ps();
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        most = _mm256_max_ps(v, most);
        strange = _mm256_or_ps(strange, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    }
    alignas(32) float lane[8];
    _mm256_store_ps(lane, most);
    bool odd = _mm256_movemask_ps(strange) != 0;
    for (; i < n; ++i) odd |= x[i] != x[i], lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (const float v : lane) lane[0] = v > lane[0] ? v : lane[0];
    return odd ? __builtin_nanf("") : lane[0];
}

}  // namespace

extern const RowKernels avx2;
const RowKernels avx2{norm, gelu_mul, softcap, exp_sum, peak};

}  // namespace gs::rows
GS_END_TARGET
#endif
