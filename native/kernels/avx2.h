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

// A strip's 16 rows are two registers in every array below, so that a broadcast of activations serves both:
// with one register at a time a third of the work is broadcasting.
template <class Register, int W>
inline void clear(Register (&sum)[2][W]) noexcept {
    for (int h = 0; h < 2; ++h)
        for (int t = 0; t < W; ++t) sum[h][t] = Register{};
}

// Holds the sums in registers: GCC 12 would put additions off to the end of a block and keep all products in memory.
template <int W>
inline void settle(__m256i (&sum)[2][W]) noexcept {
    for (int h = 0; h < 2; ++h)
        for (int t = 0; t < W; ++t) asm("" : "+x"(sum[h][t]));
}

// A block of 32 columns: the integer dot products of unsigned nibbles (matmul_q4_0.h's order) with W tokens.
// 16 products of at most 15 * 127 stay within int16.
template <int W>
inline void nibble_dots(const uint8_t* nibbles, const int8_t* q, __m256i (&dot)[2][W]) noexcept {
    const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {  // columns 4i to 4i + 3: with six tokens 12 sums leave no register for more
        __m256i part[2];
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
            const uint8_t* pairs = nibbles + 64 * (i / 2) + 32 * h;
            const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pairs));
            part[h] = _mm256_and_si256(i % 2 ? _mm256_srli_epi16(pair, 4) : pair, low);
        }
#pragma GCC unroll 6
        for (int t = 0; t < W; ++t) {
            const __m256i x = four(q + t * kBlock + 4 * i);
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h)
                dot[h][t] = _mm256_add_epi16(dot[h][t], _mm256_maddubs_epi16(part[h], x));
        }
        settle(dot);
    }
}

// The strip's rows into y[t * stride + row].
template <int W>
inline void store(const __m256 (&sum)[2][W], float* y, int64_t stride) noexcept {
    for (int h = 0; h < 2; ++h)
        for (int t = 0; t < W; ++t) _mm256_storeu_ps(y + t * stride + 8 * h, sum[h][t]);
}

// A strip by the width of its tile: Kernel::tile<W>(strip, a, y, stride) does W tokens.
template <class Kernel>
inline void by_width(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
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
