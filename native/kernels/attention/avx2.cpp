// The attention kernels in AVX2: keys and values become float32 in registers, never in memory.
#include "attention.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::attention {
namespace {

struct Keys {
    const uint16_t* at;
    int64_t step;
    int dim;
};

template <int M, int J>
inline void score_tile(const float* q, const Keys& k, float* s, int width) noexcept {
    __m256 sum[M][J];
    for (int m = 0; m < M; ++m)
        for (int j = 0; j < J; ++j) sum[m][j] = _mm256_setzero_ps();
    for (int h = 0; h < k.dim; h += 8) {
        __m256 key[J];
#pragma GCC unroll 2
        for (int j = 0; j < J; ++j) key[j] = halves(k.at + j * k.step + h);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            const __m256 row = _mm256_loadu_ps(q + m * k.dim + h);
#pragma GCC unroll 2
            for (int j = 0; j < J; ++j) sum[m][j] = _mm256_fmadd_ps(row, key[j], sum[m][j]);
        }
    }
    for (int m = 0; m < M; ++m)
        for (int j = 0; j < J; ++j) s[m * width + j] = total(sum[m][j]);
}

template <int M>
inline void score_rows(const float* q, const Keys& k, int keys, float* s, int width) noexcept {
    int j = 0;
    for (; j + 2 <= keys; j += 2) {
        score_tile<M, 2>(q, {k.at + j * k.step, k.step, k.dim}, s + j, width);
    }
    if (j < keys) score_tile<M, 1>(q, {k.at + j * k.step, k.step, k.dim}, s + j, width);
}

void scores(const float* q, int rows, int dim, const uint16_t* k, int64_t step, int keys, float* s,
            int width) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) score_rows<4>(q + m * dim, {k, step, dim}, keys, s + m * width, width);
    for (; m < rows; ++m) score_rows<1>(q + m * dim, {k, step, dim}, keys, s + m * width, width);
}

template <int M, int H>
inline void blend_tile(const float* p, int width, const Keys& v, int keys, float* o) noexcept {
    __m256 sum[M][H];
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) sum[m][h] = _mm256_loadu_ps(o + m * v.dim + 8 * h);
    for (int j = 0; j < keys; ++j) {
        __m256 value[H];
#pragma GCC unroll 2
        for (int h = 0; h < H; ++h) value[h] = halves(v.at + j * v.step + 8 * h);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            const __m256 share = _mm256_broadcast_ss(p + m * width + j);
#pragma GCC unroll 2
            for (int h = 0; h < H; ++h) sum[m][h] = _mm256_fmadd_ps(share, value[h], sum[m][h]);
        }
    }
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) _mm256_storeu_ps(o + m * v.dim + 8 * h, sum[m][h]);
}

template <int M>
inline void blend_rows(const float* p, int width, const Keys& v, int keys, float* o) noexcept {
    int h = 0;
    for (; h + 16 <= v.dim; h += 16) blend_tile<M, 2>(p, width, {v.at + h, v.step, v.dim}, keys, o + h);
    for (; h < v.dim; h += 8) blend_tile<M, 1>(p, width, {v.at + h, v.step, v.dim}, keys, o + h);
}

void blend(const float* p, int width, int rows, int dim, const uint16_t* v, int64_t step, int keys,
           float* o) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) blend_rows<4>(p + m * width, width, {v, step, dim}, keys, o + m * dim);
    for (; m < rows; ++m) blend_rows<1>(p + m * width, width, {v, step, dim}, keys, o + m * dim);
}

void store(const float* x, int n, uint16_t* out) noexcept {
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bits);
    }
    for (; i < n; ++i) out[i] = static_cast<uint16_t>(_cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT));
}

}  // namespace

extern const AttentionKernels avx2;
const AttentionKernels avx2{scores, blend, store};

}  // namespace gs::attention
GS_END_TARGET
#endif
