// matmul_float in AVX-512. A result has eight lanes by definition, so a register holds two rows; tiles of
// 8 rows and 6 tokens.
#include "matmul_float.h"

#ifdef GS_X86
#include <cstring>

#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::matmul_float {
namespace {

inline __m256i two_rows(const uint8_t* a, const uint8_t* b) noexcept {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(first),
                                   _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1);
}

// Eight values of row a and eight of row b.
struct F32 {
    static constexpr int kBytes = 4;
    static __m512 load(const uint8_t* a, const uint8_t* b) noexcept {
        const __m256 first = _mm256_loadu_ps(reinterpret_cast<const float*>(a));
        return _mm512_insertf32x8(_mm512_castps256_ps512(first),
                                  _mm256_loadu_ps(reinterpret_cast<const float*>(b)), 1);
    }
};

struct F16 {
    static constexpr int kBytes = 2;
    static __m512 load(const uint8_t* a, const uint8_t* b) noexcept { return _mm512_cvtph_ps(two_rows(a, b)); }
};

struct BF16 {
    static constexpr int kBytes = 2;
    static __m512 load(const uint8_t* a, const uint8_t* b) noexcept {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(two_rows(a, b)), 16));
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
template <class Format, int P, int W>
inline void last_columns(const Problem& p, const uint8_t* w, int64_t second, const float* x, int64_t whole,
                         __m512 (&sum)[P][W]) noexcept {
    const int64_t row_bytes = p.columns * Format::kBytes, rest = p.columns - whole;
    alignas(32) uint8_t last[2][32];
    alignas(32) float value[8];
    for (int r = 0; r < P; ++r) {
        std::memset(last, 0, sizeof last);
        for (int i = 0; i < 2; ++i)
            std::memcpy(last[i], w + 2 * r * row_bytes + i * second + whole * Format::kBytes, rest * Format::kBytes);
        const __m512 m = Format::load(last[0], last[1]);
        for (int t = 0; t < W; ++t) {
            std::memset(value, 0, sizeof value);
            std::memcpy(value, x + t * p.x_stride + whole, rest * 4);
            sum[r][t] = _mm512_fmadd_ps(m, _mm512_broadcast_f32x8(_mm256_load_ps(value)), sum[r][t]);
        }
    }
}

// P pairs of rows by W tokens; `alone`: the only pair has one row, read twice and stored once.
template <class Format, int P, int W>
inline void tile(const Problem& p, int row, int token, bool alone) noexcept {
    const int64_t row_bytes = p.columns * Format::kBytes, whole = p.columns / 8 * 8;
    const int64_t second = alone ? 0 : row_bytes;
    const uint8_t* w = p.w + row * row_bytes;
    const float* x = p.x + token * p.x_stride;
    __m512 sum[P][W];
    for (int r = 0; r < P; ++r)
        for (int t = 0; t < W; ++t) sum[r][t] = _mm512_setzero_ps();
    for (int64_t k = 0; k < whole; k += 8) {
        if (W == 1 && k % (64 / Format::kBytes) == 0) ask_ahead(w + k * Format::kBytes, row_bytes, 2 * P);
        __m512 v[W];
#pragma GCC unroll 6
        for (int t = 0; t < W; ++t) v[t] = _mm512_broadcast_f32x8(_mm256_loadu_ps(x + t * p.x_stride + k));
#pragma GCC unroll 4
        for (int r = 0; r < P; ++r) {
            const uint8_t* at = w + 2 * r * row_bytes + k * Format::kBytes;
            const __m512 m = Format::load(at, at + second);
#pragma GCC unroll 6
            for (int t = 0; t < W; ++t) sum[r][t] = _mm512_fmadd_ps(m, v[t], sum[r][t]);
        }
    }
    if (whole < p.columns) last_columns<Format>(p, w, second, x, whole, sum);
    for (int t = 0; t < W; ++t) {
        float* y = p.y + (token + t) * p.y_stride + row;
        for (int r = 0; r < P; ++r) {
            y[2 * r] = total(_mm512_castps512_ps256(sum[r][t]));
            if (!alone) y[2 * r + 1] = total(_mm512_extractf32x8_ps(sum[r][t], 1));
        }
    }
}

template <class Format, int P>
inline void rows(const Problem& p, int row, int tokens, bool alone = false) noexcept {
    int t = 0;
    for (; t + 6 <= tokens; t += 6) tile<Format, P, 6>(p, row, t, alone);
    if (t + 4 <= tokens) tile<Format, P, 4>(p, row, t, alone), t += 4;
    if (t + 2 <= tokens) tile<Format, P, 2>(p, row, t, alone), t += 2;
    if (t < tokens) tile<Format, P, 1>(p, row, t, alone);
}

template <class Format>
inline void all(const Problem& p, int num_rows, int tokens) noexcept {
    int r = 0;
    for (; r + 8 <= num_rows; r += 8) rows<Format, 4>(p, r, tokens);
    for (; r + 2 <= num_rows; r += 2) rows<Format, 1>(p, r, tokens);
    if (r < num_rows) rows<Format, 1>(p, r, tokens, true);
}

}  // namespace

void avx512(FloatFormat format, const void* w, int num_rows, int64_t columns, const float* x, int64_t x_stride,
            int tokens, float* y, int64_t y_stride) noexcept {
    const Problem p{static_cast<const uint8_t*>(w), columns, x, x_stride, y, y_stride};
    if (format == FloatFormat::f32) return all<F32>(p, num_rows, tokens);
    if (format == FloatFormat::f16) return all<F16>(p, num_rows, tokens);
    return all<BF16>(p, num_rows, tokens);
}

}  // namespace gs::matmul_float
GS_END_TARGET
#endif
