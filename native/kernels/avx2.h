// What several AVX2 kernels share. Included by avx2.cpp files only, after every other include: it opens
// the target region itself, and everything is local to the file, so no wide code leaks into a shared one.
#pragma once

#include "activations.h"
#include "isa.h"

#ifdef GS_X86
#include <cstring>
GS_BEGIN_AVX2
namespace gs {
namespace {

// Four int8 in every 32-bit lane.
[[maybe_unused]] inline __m256i four(const int8_t* a) noexcept {
    int32_t bits;
    std::memcpy(&bits, a, 4);
    return _mm256_set1_epi32(bits);
}

// Eight float16 as float32.
[[maybe_unused]] inline __m256 halves(const void* p) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

// The eight lanes added up, in the order every kernel states: lane i with i + 4, then + 2, then + 1.
[[maybe_unused]] inline float total(__m256 v) noexcept {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// Asks for the weights that come some blocks later: a block fills the window of instructions in flight, so
// without this a core waits for memory a third of the time when it decodes. Past the end it does nothing.
template <int Bytes>
inline void fetch_ahead(const uint8_t* block) noexcept {
    constexpr int kAhead = 2048;
#pragma GCC unroll 16
    for (int line = 0; line < Bytes; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(block + kAhead + line), _MM_HINT_T0);
}

template <int H, int W>
inline void clear(__m256 (&sum)[H][W]) noexcept {
    for (int h = 0; h < H; ++h)
        for (int t = 0; t < W; ++t) sum[h][t] = _mm256_setzero_ps();
}

// Registers of eight rows, from row 8 * first, into y[t * stride + row].
template <int H, int W>
inline void store(const __m256 (&sum)[H][W], int first, float* y, int64_t stride) noexcept {
    for (int h = 0; h < H; ++h)
        for (int t = 0; t < W; ++t) _mm256_storeu_ps(y + t * stride + 8 * (first + h), sum[h][t]);
}

// A strip by the width of its tile: 16 rows at once where few tokens leave registers free, else 8 and 8.
// Kernel::tile<H, W>(strip, a, first, y, stride) does H registers of eight rows for W tokens.
template <class Kernel>
inline void by_width(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    switch (a.tokens) {
        case 1: return Kernel::template tile<2, 1>(strip, a, 0, y, stride);
        case 2: return Kernel::template tile<2, 2>(strip, a, 0, y, stride);
        case 3:
            Kernel::template tile<1, 3>(strip, a, 0, y, stride);
            return Kernel::template tile<1, 3>(strip, a, 1, y, stride);
        default:
            Kernel::template tile<1, 4>(strip, a, 0, y, stride);
            return Kernel::template tile<1, 4>(strip, a, 1, y, stride);
    }
}

}  // namespace
}  // namespace gs
GS_END_TARGET
#endif
