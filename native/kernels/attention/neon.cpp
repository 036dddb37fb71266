// The attention kernels in NEON: keys and values become float32 in registers, never in memory.
#include "attention.h"

#ifdef GS_ARM64
#include "../neon.h"
namespace gs::attention {
namespace {

inline float32x4_t load(const uint16_t* p) noexcept { return halves(p); }
inline float32x4_t load(const float* p) noexcept { return vld1q_f32(p); }

template <class T>
struct Keys {
    const T* at;
    int64_t step;
    int dim;
};

template <int M, int J, class T>
inline void score_tile(const float* q, const Keys<T>& k, float* s, int width) noexcept {
    float32x4_t sum[2][M][J];  // the lanes 0 to 3 and 4 to 7
    clear(sum[0]), clear(sum[1]);
    for (int h = 0; h < k.dim; h += 8) {
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            float32x4_t key[J];
#pragma GCC unroll 2
            for (int j = 0; j < J; ++j) key[j] = load(k.at + j * k.step + h + 4 * i);
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) {
                const float32x4_t row = vld1q_f32(q + m * k.dim + h + 4 * i);
#pragma GCC unroll 2
                for (int j = 0; j < J; ++j) sum[i][m][j] = vfmaq_f32(sum[i][m][j], row, key[j]);
            }
        }
    }
    for (int m = 0; m < M; ++m)
        for (int j = 0; j < J; ++j) s[m * width + j] = total(sum[0][m][j], sum[1][m][j]);
}

template <int M, class T>
inline void score_rows(const float* q, const Keys<T>& k, int keys, float* s, int width) noexcept {
    int j = 0;
    for (; j + 2 <= keys; j += 2) score_tile<M, 2>(q, Keys<T>{k.at + j * k.step, k.step, k.dim}, s + j, width);
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
    float32x4_t sum[M][H];
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) sum[m][h] = vld1q_f32(o + m * v.dim + 4 * h);
    for (int j = 0; j < keys; ++j) {
        float32x4_t value[H];
#pragma GCC unroll 4
        for (int h = 0; h < H; ++h) value[h] = load(v.at + j * v.step + 4 * h);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            const float32x4_t share = vdupq_n_f32(p[m * width + j]);
#pragma GCC unroll 4
            for (int h = 0; h < H; ++h) sum[m][h] = vfmaq_f32(sum[m][h], share, value[h]);
        }
    }
    for (int m = 0; m < M; ++m)
        for (int h = 0; h < H; ++h) vst1q_f32(o + m * v.dim + 4 * h, sum[m][h]);
}

template <int M, class T>
inline void blend_rows(const float* p, int width, const Keys<T>& v, int keys, float* o) noexcept {
    int h = 0;
    for (; h + 16 <= v.dim; h += 16) blend_tile<M, 4>(p, width, Keys<T>{v.at + h, v.step, v.dim}, keys, o + h);
    for (; h < v.dim; h += 8) blend_tile<M, 2>(p, width, Keys<T>{v.at + h, v.step, v.dim}, keys, o + h);
}

template <class T>
void blend(const float* p, int width, int rows, int dim, const T* v, int64_t step, int keys,
           float* o) noexcept {
    int m = 0;
    for (; m + 4 <= rows; m += 4) blend_rows<4>(p + m * width, width, Keys<T>{v, step, dim}, keys, o + m * dim);
    for (; m < rows; ++m) blend_rows<1>(p + m * width, width, Keys<T>{v, step, dim}, keys, o + m * dim);
}

}  // namespace

extern const AttentionKernels neon;
const AttentionKernels neon{scores<uint16_t>, scores<float>, blend<uint16_t>, blend<float>};

}  // namespace gs::attention
#endif
