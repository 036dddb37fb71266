// What several AVX-512 kernels share. Included by avx512.cpp files only, after every other include, as
// avx2.h is, which comes along for registers of eight lanes.
#pragma once

#include "avx2.h"

#ifdef GS_X86
GS_BEGIN_AVX512
namespace gs {
namespace {

// Four int8 in every 32-bit lane: a broadcast the compiler folds into the instruction that reads it.
[[maybe_unused]] inline __m512i four_wide(const int8_t* a) noexcept {
    int32_t bits;
    std::memcpy(&bits, a, 4);
    return _mm512_set1_epi32(bits);
}

// Sixteen float16 as float32.
[[maybe_unused]] inline __m512 halves_wide(const void* p) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

template <int W>
inline void clear(__m512 (&sum)[W]) noexcept {
    for (int t = 0; t < W; ++t) sum[t] = _mm512_setzero_ps();
}

// A register holds the 16 rows of a strip.
template <int W>
inline void store(const __m512 (&sum)[W], float* y, int64_t stride) noexcept {
    for (int t = 0; t < W; ++t) _mm512_storeu_ps(y + t * stride, sum[t]);
}

// The products of one block in matmul_q4_0's order, nibbles unsigned: 12 instructions unpack them, 8 a token
// multiply. Adds to dot; a chain of 8 is hidden by the blocks in flight.
template <int W>
inline void nibble_dots(const uint8_t* nibbles, const int8_t* q, __m512i (&dot)[W]) noexcept {
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const __m512i pair = _mm512_loadu_si512(nibbles + 64 * c);
        const __m512i lo = _mm512_and_si512(pair, low);
        const __m512i hi = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
#pragma GCC unroll 6
        for (int t = 0; t < W; ++t) {
            const int8_t* x = q + t * kBlock + 8 * c;
            dot[t] = _mm512_dpbusd_epi32(dot[t], lo, four_wide(x));
            dot[t] = _mm512_dpbusd_epi32(dot[t], hi, four_wide(x + 4));
        }
    }
}

// Kernel::tile<W>(strip, a, y, stride) does a whole strip for W tokens.
template <class Kernel>
inline void by_tokens(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    switch (a.tokens) {
        case 1: return Kernel::template tile<1>(strip, a, y, stride);
        case 2: return Kernel::template tile<2>(strip, a, y, stride);
        case 3: return Kernel::template tile<3>(strip, a, y, stride);
        case 4: return Kernel::template tile<4>(strip, a, y, stride);
        case 5: return Kernel::template tile<5>(strip, a, y, stride);
        default: return Kernel::template tile<6>(strip, a, y, stride);
    }
}

}  // namespace
}  // namespace gs
GS_END_TARGET
#endif
