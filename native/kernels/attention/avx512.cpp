// The attention kernels in AVX-512. A score has eight lanes by definition, so a register holds two keys.
#include "attention.h"

#ifdef GS_X86
#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::attention {
namespace {

struct Keys {
    const uint16_t* at;
    int64_t step;
    int dim;
};

// Eight values of each of two keys.
inline __m512 two_keys(const uint16_t* a, const uint16_t* b) noexcept {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
    return _mm512_cvtph_ps(_mm256_inserti128_si256(
        _mm256_castsi128_si256(first), _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1));
}

// M query rows by J pairs of keys; `second` is how far the other key of a pair lies, 0: there is none.
template <int M, int J>
inline void score_tile(const float* q, const Keys& k, int64_t second, float* s, int width) noexcept {
    __m512 sum[M][J];
    for (int m = 0; m < M; ++m) clear(sum[m]);
    for (int h = 0; h < k.dim; h += 8) {
        __m512 key[J];
#pragma GCC unroll 2
        for (int j = 0; j < J; ++j) {
            const uint16_t* at = k.at + 2 * j * k.step + h;
            key[j] = two_keys(at, at + second);
        }
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            const __m512 row = _mm512_broadcast_f32x8(_mm256_loadu_ps(q + m * k.dim + h));
#pragma GCC unroll 2
            for (int j = 0; j < J; ++j) sum[m][j] = _mm512_fmadd_ps(row, key[j], sum[m][j]);
        }
    }
    for (int m = 0; m < M; ++m) {
        for (int j = 0; j < J; ++j) {
            s[m * width + 2 * j] = total(_mm512_castps512_ps256(sum[m][j]));
            if (second) s[m * width + 2 * j + 1] = total(_mm512_extractf32x8_ps(sum[m][j], 1));
        }
    }
}

template <int M>
inline void score_rows(const float* q, const Keys& k, int keys, float* s, int width) noexcept {
    int j = 0;
    const auto from = [&](int key) noexcept { return Keys{k.at + key * k.step, k.step, k.dim}; };
    for (; j + 4 <= keys; j += 4) score_tile<M, 2>(q, from(j), k.step, s + j, width);
    if (j + 2 <= keys) score_tile<M, 1>(q, from(j), k.step, s + j, width), j += 2;
    if (j < keys) score_tile<M, 1>(q, from(j), 0, s + j, width);
}

void scores(const float* q, int rows, int dim, const uint16_t* k, int64_t step, int keys, float* s,
            int width) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) score_rows<4>(q + m * dim, {k, step, dim}, keys, s + m * width, width);
    for (; m < rows; ++m) score_rows<1>(q + m * dim, {k, step, dim}, keys, s + m * width, width);
}

template <int M, int H>
inline void blend_tile(const float* p, int width, const Keys& v, int keys, float* o) noexcept {
    __m512 sum[M][H];
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) sum[m][h] = _mm512_loadu_ps(o + m * v.dim + 16 * h);
    for (int j = 0; j < keys; ++j) {
        __m512 value[H];
#pragma GCC unroll 2
        for (int h = 0; h < H; ++h) value[h] = halves_wide(v.at + j * v.step + 16 * h);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            const __m512 share = _mm512_set1_ps(p[m * width + j]);
#pragma GCC unroll 2
            for (int h = 0; h < H; ++h) sum[m][h] = _mm512_fmadd_ps(share, value[h], sum[m][h]);
        }
    }
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) _mm512_storeu_ps(o + m * v.dim + 16 * h, sum[m][h]);
}

// The last eight values of heads that are no multiple of 16.
template <int M>
inline void blend_eight(const float* p, int width, const Keys& v, int keys, float* o) noexcept {
    for (int m = 0; m < M; ++m) {
        __m256 sum = _mm256_loadu_ps(o + m * v.dim);
        for (int j = 0; j < keys; ++j)
            sum = _mm256_fmadd_ps(_mm256_set1_ps(p[m * width + j]), halves(v.at + j * v.step), sum);
        _mm256_storeu_ps(o + m * v.dim, sum);
    }
}

template <int M>
inline void blend_rows(const float* p, int width, const Keys& v, int keys, float* o) noexcept {
    int h = 0;
    for (; h + 32 <= v.dim; h += 32) blend_tile<M, 2>(p, width, {v.at + h, v.step, v.dim}, keys, o + h);
    if (h + 16 <= v.dim) blend_tile<M, 1>(p, width, {v.at + h, v.step, v.dim}, keys, o + h), h += 16;
    if (h < v.dim) blend_eight<M>(p, width, {v.at + h, v.step, v.dim}, keys, o + h);
}

void blend(const float* p, int width, int rows, int dim, const uint16_t* v, int64_t step, int keys,
           float* o) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) blend_rows<4>(p + m * width, width, {v, step, dim}, keys, o + m * dim);
    for (; m < rows; ++m) blend_rows<1>(p + m * width, width, {v, step, dim}, keys, o + m * dim);
}

void store_halves(const float* x, int n, uint16_t* out) noexcept {
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256i bits = _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), bits);
    }
    for (; i < n; ++i) out[i] = static_cast<uint16_t>(_cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace

extern const AttentionKernels avx512;
const AttentionKernels avx512{scores, blend, store_halves};

}  // namespace gs::attention
GS_END_TARGET
#endif
