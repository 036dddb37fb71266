// The attention kernels in AVX2: keys and values become float32 in registers, never in memory.
#include "attention.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::attention {
namespace {

inline __m256 load(const uint16_t* p) noexcept { return halves(p); }
inline __m256 load(const float* p) noexcept { return _mm256_loadu_ps(p); }

template <class T>
struct Keys {
    const T* at;
    int64_t step;
    int dim;
};

template <int M, int J, class T>
inline void score_tile(const float* q, const Keys<T>& k, float* s, int width) noexcept {
    __m256 sum[M][J];
    for (int m = 0; m < M; ++m)
        for (int j = 0; j < J; ++j) sum[m][j] = _mm256_setzero_ps();
    for (int h = 0; h < k.dim; h += 8) {
        __m256 key[J];
#pragma GCC unroll 2
        for (int j = 0; j < J; ++j) key[j] = load(k.at + j * k.step + h);
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

template <int M, class T>
inline void score_rows(const float* q, const Keys<T>& k, int keys, float* s, int width) noexcept {
    int j = 0;
    for (; j + 2 <= keys; j += 2) {
        score_tile<M, 2>(q, Keys<T>{k.at + j * k.step, k.step, k.dim}, s + j, width);
    }
    if (j < keys) score_tile<M, 1>(q, Keys<T>{k.at + j * k.step, k.step, k.dim}, s + j, width);
}

template <class T>
void scores(const float* q, int rows, int dim, const T* k, int64_t step, int keys, float* s,
            int width) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) score_rows<4>(q + m * dim, Keys<T>{k, step, dim}, keys, s + m * width, width);
    for (; m < rows; ++m) score_rows<1>(q + m * dim, Keys<T>{k, step, dim}, keys, s + m * width, width);
}

template <int M, int H, class T>
inline void blend_tile(const float* p, int width, const Keys<T>& v, int keys, float* o) noexcept {
    __m256 sum[M][H];
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) sum[m][h] = _mm256_loadu_ps(o + m * v.dim + 8 * h);
    for (int j = 0; j < keys; ++j) {
        __m256 value[H];
#pragma GCC unroll 2
        for (int h = 0; h < H; ++h) value[h] = load(v.at + j * v.step + 8 * h);
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

template <int M, class T>
inline void blend_rows(const float* p, int width, const Keys<T>& v, int keys, float* o) noexcept {
    int h = 0;
    for (; h + 16 <= v.dim; h += 16) blend_tile<M, 2>(p, width, Keys<T>{v.at + h, v.step, v.dim}, keys, o + h);
    for (; h < v.dim; h += 8) blend_tile<M, 1>(p, width, Keys<T>{v.at + h, v.step, v.dim}, keys, o + h);
}

template <class T>
void blend(const float* p, int width, int rows, int dim, const T* v, int64_t step, int keys,
           float* o) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) blend_rows<4>(p + m * width, width, Keys<T>{v, step, dim}, keys, o + m * dim);
    for (; m < rows; ++m) blend_rows<1>(p + m * width, width, Keys<T>{v, step, dim}, keys, o + m * dim);
}

}  // namespace

extern const AttentionKernels avx2;
const AttentionKernels avx2{scores<uint16_t>, scores<float>, blend<uint16_t>, blend<float>};

}  // namespace gs::attention
GS_END_TARGET
#endif
