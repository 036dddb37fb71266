// matmul_float in AVX2: tiles of 4 rows and 3 tokens, one register of eight lanes each.
#include "matmul_float.h"

#ifdef GS_X86
#include <cstring>

#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::matmul_float {
namespace {

struct F32 {
    static constexpr int kBytes = 4;
    static __m256 load(const uint8_t* p) noexcept { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
};

struct F16 {
    static constexpr int kBytes = 2;
    static __m256 load(const uint8_t* p) noexcept {
        return halves(p);
    }
};

struct BF16 {
    static constexpr int kBytes = 2;
    static __m256 load(const uint8_t* p) noexcept {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
};

struct Problem {
    const uint8_t* w;
    int64_t columns;
    const float* x;
    int64_t x_stride;
    float* y;
    int64_t y_stride;
};

template <class Format, int R, int W>
inline void tile(const Problem& p, int row, int token) noexcept {
    const int64_t row_bytes = p.columns * Format::kBytes, whole = p.columns / 8 * 8;
    const uint8_t* w = p.w + row * row_bytes;
    const float* x = p.x + token * p.x_stride;
    __m256 sum[R][W];
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < W; ++t) sum[r][t] = _mm256_setzero_ps();
    for (int64_t k = 0; k < whole; k += 8) {
        if (W == 1 && k % (64 / Format::kBytes) == 0) ask_ahead(w + k * Format::kBytes, row_bytes, R);
        __m256 v[W];
#pragma GCC unroll 3
        for (int t = 0; t < W; ++t) v[t] = _mm256_loadu_ps(x + t * p.x_stride + k);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            const __m256 m = Format::load(w + r * row_bytes + k * Format::kBytes);
#pragma GCC unroll 3
            for (int t = 0; t < W; ++t) sum[r][t] = _mm256_fmadd_ps(m, v[t], sum[r][t]);
        }
    }
    if (const int64_t rest = p.columns - whole) {
        alignas(32) uint8_t last[32];
        alignas(32) float value[8];
        for (int r = 0; r < R; ++r) {
            std::memset(last, 0, sizeof last);
            std::memcpy(last, w + r * row_bytes + whole * Format::kBytes, rest * Format::kBytes);
            const __m256 m = Format::load(last);
            for (int t = 0; t < W; ++t) {
                std::memset(value, 0, sizeof value);
                std::memcpy(value, x + t * p.x_stride + whole, rest * 4);
                sum[r][t] = _mm256_fmadd_ps(m, _mm256_load_ps(value), sum[r][t]);
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < W; ++t) p.y[(token + t) * p.y_stride + row + r] = total(sum[r][t]);
}

template <class Format, int R>
inline void rows(const Problem& p, int row, int tokens) noexcept {
    int t = 0;
    for (; t + 3 <= tokens; t += 3) tile<Format, R, 3>(p, row, t);
    if (tokens - t == 2) tile<Format, R, 2>(p, row, t);
    if (tokens - t == 1) tile<Format, R, 1>(p, row, t);
}

template <class Format>
inline void all(const Problem& p, int num_rows, int tokens) noexcept {
    int r = 0;
    for (; r + 4 <= num_rows; r += 4) rows<Format, 4>(p, r, tokens);
    for (; r < num_rows; ++r) rows<Format, 1>(p, r, tokens);
}

}  // namespace

void avx2(FloatFormat format, const void* w, int num_rows, int64_t columns, const float* x, int64_t x_stride,
          int tokens, float* y, int64_t y_stride) noexcept {
    const Problem p{static_cast<const uint8_t*>(w), columns, x, x_stride, y, y_stride};
    if (format == FloatFormat::f32) return all<F32>(p, num_rows, tokens);
    if (format == FloatFormat::f16) return all<F16>(p, num_rows, tokens);
    return all<BF16>(p, num_rows, tokens);
}

}  // namespace gs::matmul_float
GS_END_TARGET
#endif
