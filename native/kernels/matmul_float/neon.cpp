// matmul_float in NEON: tiles of 4 rows and 3 tokens, the eight lanes of a result in two registers.
#include "matmul_float.h"

#ifdef GS_ARM64
#include "../neon.h"
namespace gs::matmul_float {
namespace {

struct F32 {
    static constexpr int kBytes = 4;
    static float32x4_t load(const uint8_t* p) noexcept { return vreinterpretq_f32_u8(vld1q_u8(p)); }
};

struct F16 {
    static constexpr int kBytes = 2;
    static float32x4_t load(const uint8_t* p) noexcept { return halves(p); }
};

struct BF16 {
    static constexpr int kBytes = 2;
    static float32x4_t load(const uint8_t* p) noexcept {
        return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
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

// The columns behind the last whole eight: copied so that zeros follow them.
template <class Format, int R, int W>
inline void last_columns(const Problem& p, const uint8_t* w, const float* x, int64_t whole,
                         float32x4_t (&sum)[2][R][W]) noexcept {
    const int64_t row_bytes = p.columns * Format::kBytes, rest = p.columns - whole;
    for (int r = 0; r < R; ++r) {
        uint8_t last[32] = {};
        std::memcpy(last, w + r * row_bytes + whole * Format::kBytes, rest * Format::kBytes);
        for (int t = 0; t < W; ++t) {
            float value[8] = {};
            std::memcpy(value, x + t * p.x_stride + whole, rest * 4);
            for (int i = 0; i < 2; ++i)
                sum[i][r][t] = vfmaq_f32(sum[i][r][t], Format::load(last + 4 * i * Format::kBytes),
                                         vld1q_f32(value + 4 * i));
        }
    }
}

template <class Format, int R, int W>
inline void tile(const Problem& p, int row, int token) noexcept {
    const int64_t row_bytes = p.columns * Format::kBytes, whole = p.columns / 8 * 8;
    const uint8_t* w = p.w + row * row_bytes;
    const float* x = p.x + token * p.x_stride;
    float32x4_t sum[2][R][W];
    clear(sum[0]), clear(sum[1]);
    for (int64_t k = 0; k < whole; k += 8) {
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            float32x4_t v[W];
#pragma GCC unroll 3
            for (int t = 0; t < W; ++t) v[t] = vld1q_f32(x + t * p.x_stride + k + 4 * i);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
                const float32x4_t m = Format::load(w + r * row_bytes + (k + 4 * i) * Format::kBytes);
#pragma GCC unroll 3
                for (int t = 0; t < W; ++t) sum[i][r][t] = vfmaq_f32(sum[i][r][t], m, v[t]);
            }
        }
    }
    if (whole < p.columns) last_columns<Format>(p, w, x, whole, sum);
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < W; ++t) p.y[(token + t) * p.y_stride + row + r] = total(sum[0][r][t], sum[1][r][t]);
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

void neon(FloatFormat format, const void* w, int num_rows, int64_t columns, const float* x, int64_t x_stride,
          int tokens, float* y, int64_t y_stride) noexcept {
    const Problem p{static_cast<const uint8_t*>(w), columns, x, x_stride, y, y_stride};
    if (format == FloatFormat::f32) return all<F32>(p, num_rows, tokens);
    if (format == FloatFormat::f16) return all<F16>(p, num_rows, tokens);
    return all<BF16>(p, num_rows, tokens);
}

}  // namespace gs::matmul_float
#endif
