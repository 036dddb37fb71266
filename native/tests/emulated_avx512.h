// AVX-512 on a machine that has AVX2: SIMDe's intrinsics under their own names, and, as two halves, those
// that SIMDe 0.7.4 lacks. A tool of the tests: `build.py test --emulate avx512` puts it before every
// avx512.cpp, and nothing shipped includes it.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>

#include <simde/x86/avx512.h>

namespace gs_emulated {

inline __m512 both(__m256 low, __m256 high) noexcept {
    return simde_mm512_insertf32x8(simde_mm512_castps256_ps512(low), high, 1);
}
inline __m512i both(__m256i low, __m256i high) noexcept {
    return simde_mm512_inserti64x4(simde_mm512_castsi256_si512(low), high, 1);
}
inline __m256i low_half(__m512i v) noexcept { return simde_mm512_castsi512_si256(v); }
inline __m256i high_half(__m512i v) noexcept { return simde_mm512_extracti64x4_epi64(v, 1); }
inline __m256 high_half(__m512 v) noexcept {
    return _mm256_castsi256_ps(simde_mm512_extracti64x4_epi64(simde_mm512_castps_si512(v), 1));
}
inline __m128i upper(__m128i v) noexcept { return _mm_unpackhi_epi64(v, v); }

inline __m512i cvtepu8_epi32(__m128i v) noexcept {
    return both(_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(upper(v)));
}
inline __m512i cvtepi8_epi32(__m128i v) noexcept {
    return both(_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(upper(v)));
}
inline __m512i cvtepu16_epi32(__m256i v) noexcept {
    return both(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)));
}
inline __m512 cvtepi32_ps(__m512i v) noexcept {
    return both(_mm256_cvtepi32_ps(low_half(v)), _mm256_cvtepi32_ps(high_half(v)));
}
inline __m512 cvtph_ps(__m256i v) noexcept {
    return both(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}
inline __m256i nearest_halves(__m512 v) noexcept {
    const __m128i low = _mm256_cvtps_ph(simde_mm512_castps512_ps256(v), _MM_FROUND_TO_NEAREST_INT);
    const __m128i high = _mm256_cvtps_ph(high_half(v), _MM_FROUND_TO_NEAREST_INT);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

}  // namespace gs_emulated

#define _mm512_cvtepu8_epi32(v) gs_emulated::cvtepu8_epi32(v)
#define _mm512_cvtepi8_epi32(v) gs_emulated::cvtepi8_epi32(v)
#define _mm512_cvtepu16_epi32(v) gs_emulated::cvtepu16_epi32(v)
#define _mm512_cvtepi32_ps(v) gs_emulated::cvtepi32_ps(v)
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(v) gs_emulated::cvtph_ps(v)
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(v, rounding) gs_emulated::nearest_halves(v)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(v, half) gs_emulated::high_half(v)
