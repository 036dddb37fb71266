// The K/V kernels in AVX2.
#include "kv.h"

#ifdef GS_X86
#include "../avx2.h"
GS_BEGIN_AVX2
namespace gs::kv {
namespace {

void store_halves(const float* x, int n, uint8_t* out) noexcept {
    for (int i = 0; i < n; i += 8) {
        const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i), bits);
    }
}

void store_block(const float* x, uint8_t* out) noexcept {
    const __m256 sign = _mm256_set1_ps(-0.0f), zero = _mm256_setzero_ps();
    __m256 v[4], peaks = zero, checks = zero;
    for (int i = 0; i < 4; ++i) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        peaks = _mm256_max_ps(_mm256_andnot_ps(sign, v[i]), peaks);  // of a NaN, the second
        checks = _mm256_add_ps(checks, _mm256_mul_ps(v[i], zero));
    }
    __m128 peak = _mm_max_ps(_mm256_castps256_ps128(peaks), _mm256_extractf128_ps(peaks, 1));
    peak = _mm_max_ps(peak, _mm_movehl_ps(peak, peak));
    peak = _mm_max_ss(peak, _mm_movehdup_ps(peak));
    const float scale = _mm_cvtss_f32(peak) / 127.0f + total(checks);
    const auto bits = static_cast<uint16_t>(_cvtss_sh(scale, _MM_FROUND_TO_NEAREST_INT));
    std::memcpy(out, &bits, 2);
    const float kept = _cvtsh_ss(bits), inverse = kept > 0 ? 1.0f / kept : 0.0f;
    __m256i whole[4];
    for (int i = 0; i < 4; ++i) {
        const __m256 scaled = _mm256_mul_ps(v[i], _mm256_set1_ps(inverse));
        const __m256 held = _mm256_max_ps(scaled, _mm256_set1_ps(-127.0f));  // of a NaN, -127
        whole[i] = _mm256_cvtps_epi32(_mm256_min_ps(held, _mm256_set1_ps(127.0f)));
    }
    const __m256i low = _mm256_packs_epi32(whole[0], whole[1]), high = _mm256_packs_epi32(whole[2], whole[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packs keeps to its halves
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2), bytes);
}

void store(KvFormat format, const float* x, int n, uint8_t* out) noexcept {
    if (format == KvFormat::f16) return store_halves(x, n, out);
    for (int b = 0; b < n / kKvBlock; ++b) store_block(x + b * kKvBlock, out + b * kKvBlockBytes);
}

template <bool Weighted>
inline void put(__m256 x, const float* weight, float* out) noexcept {
    _mm256_storeu_ps(out, Weighted ? _mm256_mul_ps(x, _mm256_loadu_ps(weight)) : x);
}

template <bool Weighted>
inline void expand_row(KvFormat format, const uint8_t* row, int dim, const float* weight, float* out) noexcept {
    if (format == KvFormat::f16) {
        for (int h = 0; h < dim; h += 8) put<Weighted>(halves(row + 2 * h), weight + h, out + h);
        return;
    }
    for (int h = 0; h < dim; h += kKvBlock, row += kKvBlockBytes) {
        uint16_t bits;
        std::memcpy(&bits, row, 2);
        const __m256 scale = _mm256_set1_ps(_cvtsh_ss(bits));
#pragma GCC unroll 4
        for (int i = 0; i < kKvBlock; i += 8) {
            const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 2 + i));
            const __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
            put<Weighted>(_mm256_mul_ps(x, scale), weight + h + i, out + h + i);
        }
    }
}

void expand(KvFormat format, const uint8_t* from, int64_t step, int dim, int keys, const float* weight, float* out,
            int64_t stride) noexcept {
    for (int j = 0; j < keys; ++j, from += step, out += stride) {
        if (weight) {
            expand_row<true>(format, from, dim, weight, out);
        } else {
            expand_row<false>(format, from, dim, out, out);
        }
    }
}

void turn(float* x, int64_t stride, int dim, int keys, const float* cosine, const float* sine, int pairs) noexcept {
    for (int j = 0; j < keys; ++j, cosine += pairs, sine += pairs) {
        float *head = x + j * stride, *other = head + dim / 2;
        int i = 0;
        for (; i + 8 <= pairs; i += 8) {
            const __m256 a = _mm256_loadu_ps(head + i), b = _mm256_loadu_ps(other + i);
            const __m256 c = _mm256_loadu_ps(cosine + i), s = _mm256_loadu_ps(sine + i);
            _mm256_storeu_ps(head + i, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
            _mm256_storeu_ps(other + i, _mm256_add_ps(_mm256_mul_ps(b, c), _mm256_mul_ps(a, s)));
        }
        for (; i < pairs; ++i) {
            const float a = head[i], b = other[i];
            head[i] = a * cosine[i] - b * sine[i];
            other[i] = b * cosine[i] + a * sine[i];
        }
    }
}

}  // namespace

extern const KvKernels avx2;
const KvKernels avx2{store, expand, turn};

}  // namespace gs::kv
GS_END_TARGET
#endif
