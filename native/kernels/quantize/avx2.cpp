// quantize in AVX2.
#include "quantize.h"

#ifdef GS_X86
#include <limits>
GS_BEGIN_AVX2
namespace gs::quantize {
namespace {

inline float greatest(__m256 v) noexcept {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

inline int total(__m128i pairs) noexcept {  // of four int32
    pairs = _mm_add_epi32(pairs, _mm_unpackhi_epi64(pairs, pairs));
    return _mm_cvtsi128_si32(pairs) + _mm_extract_epi32(pairs, 1);
}

}  // namespace

void avx2(const float* x, const Activations& tile, int t) noexcept {
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    for (int b = 0; b < tile.blocks; ++b, x += kBlock) {
        const int64_t at = static_cast<int64_t>(b) * tile.tokens + t;
        __m256 v[4], peaks = _mm256_setzero_ps(), check = _mm256_setzero_ps();
        for (int i = 0; i < 4; ++i) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            peaks = _mm256_max_ps(peaks, _mm256_and_ps(v[i], no_sign));
            check = _mm256_add_ps(check, _mm256_mul_ps(v[i], _mm256_setzero_ps()));  // NaN unless finite
        }
        const bool finite = _mm256_movemask_ps(_mm256_cmp_ps(check, check, _CMP_UNORD_Q)) == 0;
        const float peak = greatest(peaks);
        const float scale = finite ? peak / 127.0f : std::numeric_limits<float>::quiet_NaN();
        const __m256 inverse = _mm256_set1_ps(finite && peak > 1e-30f ? 127.0f / peak : 0.0f);
        __m256i whole[4];
        for (int i = 0; i < 4; ++i) {
            const __m256 scaled = finite ? _mm256_mul_ps(v[i], inverse) : _mm256_setzero_ps();
            whole[i] = _mm256_cvtps_epi32(scaled);
        }
        const __m256i first = _mm256_add_epi32(whole[0], whole[1]), second = _mm256_add_epi32(whole[2], whole[3]);
        const int half0 = total(_mm_add_epi32(_mm256_castsi256_si128(first), _mm256_extracti128_si256(first, 1)));
        const int half1 = total(_mm_add_epi32(_mm256_castsi256_si128(second), _mm256_extracti128_si256(second, 1)));
        const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]),
                                                  _mm256_packs_epi32(whole[2], whole[3]));
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // the packs work per 128 bits
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(tile.q + at * kBlock),
                            _mm256_permutevar8x32_epi32(packed, order));
        tile.scale[at] = scale;
        tile.sum_scaled[at] = scale * static_cast<float>(half0 + half1);
        tile.eight[at] = 8 * (half0 + half1);
        tile.halves[2 * at] = 32 * half0;
        tile.halves[2 * at + 1] = 32 * half1;
    }
}

}  // namespace gs::quantize
GS_END_TARGET
#endif
