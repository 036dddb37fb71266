// The attention kernels in AVX-512. A score has eight lanes by definition, so a register holds two keys.
#include "attention.h"

#ifdef GS_X86
#include "../avx512.h"
GS_BEGIN_AVX512
namespace gs::attention {
namespace {

template <class T>
struct Keys {
    const T* at;
    int64_t step;
    int dim;
};

// Eight values of each of two keys.
inline __m512 two_keys(const uint16_t* a, const uint16_t* b) noexcept {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
    return _mm512_cvtph_ps(_mm256_inserti128_si256(
        _mm256_castsi128_si256(first), _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1));
}

inline __m512 two_keys(const float* a, const float* b) noexcept {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(a)), _mm256_loadu_ps(b), 1);
}

inline __m512 wide(const uint16_t* p) noexcept { return halves_wide(p); }
inline __m512 wide(const float* p) noexcept { return _mm512_loadu_ps(p); }
inline __m256 narrow(const uint16_t* p) noexcept { return halves(p); }
inline __m256 narrow(const float* p) noexcept { return _mm256_loadu_ps(p); }

// M query rows by J pairs of keys; `second` is how far the other key of a pair lies, 0: there is none.
template <int M, int J, class T>
inline void score_tile(const float* q, const Keys<T>& k, int64_t second, float* s, int width) noexcept {
    __m512 sum[M][J];
    for (int m = 0; m < M; ++m) clear(sum[m]);
    for (int h = 0; h < k.dim; h += 8) {
        __m512 key[J];
#pragma GCC unroll 2
        for (int j = 0; j < J; ++j) {
            const T* at = k.at + 2 * j * k.step + h;
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

template <int M, class T>
inline void score_rows(const float* q, const Keys<T>& k, int keys, float* s, int width) noexcept {
    int j = 0;
    const auto from = [&](int key) noexcept { return Keys<T>{k.at + key * k.step, k.step, k.dim}; };
    for (; j + 4 <= keys; j += 4) score_tile<M, 2>(q, from(j), k.step, s + j, width);
    if (j + 2 <= keys) score_tile<M, 1>(q, from(j), k.step, s + j, width), j += 2;
    if (j < keys) score_tile<M, 1>(q, from(j), 0, s + j, width);
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
    __m512 sum[M][H];
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) sum[m][h] = _mm512_loadu_ps(o + m * v.dim + 16 * h);
    for (int j = 0; j < keys; ++j) {
        __m512 value[H];
#pragma GCC unroll 2
        for (int h = 0; h < H; ++h) value[h] = wide(v.at + j * v.step + 16 * h);
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
template <int M, class T>
inline void blend_eight(const float* p, int width, const Keys<T>& v, int keys, float* o) noexcept {
    for (int m = 0; m < M; ++m) {
        __m256 sum = _mm256_loadu_ps(o + m * v.dim);
        for (int j = 0; j < keys; ++j)
            sum = _mm256_fmadd_ps(_mm256_set1_ps(p[m * width + j]), narrow(v.at + j * v.step), sum);
        _mm256_storeu_ps(o + m * v.dim, sum);
    }
}

template <int M, class T>
inline void blend_rows(const float* p, int width, const Keys<T>& v, int keys, float* o) noexcept {
    int h = 0;
    for (; h + 32 <= v.dim; h += 32) blend_tile<M, 2>(p, width, Keys<T>{v.at + h, v.step, v.dim}, keys, o + h);
    if (h + 16 <= v.dim) blend_tile<M, 1>(p, width, Keys<T>{v.at + h, v.step, v.dim}, keys, o + h), h += 16;
    if (h < v.dim) blend_eight<M>(p, width, Keys<T>{v.at + h, v.step, v.dim}, keys, o + h);
}

template <class T>
void blend(const float* p, int width, int rows, int dim, const T* v, int64_t step, int keys,
           float* o) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) blend_rows<4>(p + m * width, width, Keys<T>{v, step, dim}, keys, o + m * dim);
    for (; m < rows; ++m) blend_rows<1>(p + m * width, width, Keys<T>{v, step, dim}, keys, o + m * dim);
}

}  // namespace

extern const AttentionKernels avx512;
const AttentionKernels avx512{scores<uint16_t>, scores<float>, blend<uint16_t>, blend<float>};

}  // namespace gs::attention
GS_END_TARGET
#endif
