// matmul_q8_0 in NEON: four rows a register.
#include "matmul_q8_0.h"

#ifdef GS_ARM64
#include "../neon.h"
GS_BEGIN_NEON
namespace gs::matmul_q8_0 {
namespace {

#if defined(GS_DOTPROD) || defined(GS_I8MM)
template <int W>
using Sums = Dots<W>;

template <int I, class D>
inline void add(D& dot, uint8x16_t a, uint8x16_t b, const typename D::Columns& x) noexcept {
    dot.template add<0, I>(D::template part<0>(a, b), x);
    dot.template add<1, I>(D::template part<1>(a, b), x);
}
#else
// As Dots, in int32.
template <int W>
struct Sums {
    using Columns = PlainColumns;
    int32x4_t low[W], high[W];
    static Sums zero() noexcept {
        Sums sums;
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) sums.low[t] = sums.high[t] = vdupq_n_s32(0);
        return sums;
    }
    int32x4_t total(int t) const noexcept { return vpaddq_s32(low[t], high[t]); }
};

// Two products of -128 and 127 still fit int16, three do not.
template <int I, int W>
inline void add(Sums<W>& dot, uint8x16_t a, uint8x16_t b, const PlainColumns& x) noexcept {
    const int8x16_t w = vreinterpretq_s8_u8(a), next = vreinterpretq_s8_u8(b);
#pragma GCC unroll 4
    for (int t = 0; t < W; ++t) {
        const int8x16_t q = x.four<I>(t), next_q = x.four<I + 2>(t);
        const int16x8_t first = vmull_s8(vget_low_s8(w), vget_low_s8(q));
        dot.low[t] = vpadalq_s16(dot.low[t], vmlal_s8(first, vget_low_s8(next), vget_low_s8(next_q)));
        dot.high[t] = vpadalq_s16(dot.high[t], vmlal_high_s8(vmull_high_s8(w, q), next, next_q));
    }
}
#endif

// Two chunks of 64 bytes that lie 128 apart: the columns 4 * I .. of x and those from 4 * I + 8.
template <int I, class D, int H>
inline void two_chunks(const uint8_t* chunk, const typename D::Columns& x, D (&dot)[H]) noexcept {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) add<I>(dot[h], vld1q_u8(chunk + 16 * h), vld1q_u8(chunk + 16 * h + 128), x);
}

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        float32x4_t sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ8_0Bytes) {
            Sums<W> dot[H];
            for (int h = 0; h < H; ++h) dot[h] = Sums<W>::zero();
#pragma GCC unroll 2
            for (int g = 0; g < 2; ++g) {
                const typename Sums<W>::Columns x(q, g);
                two_chunks<0>(strip + 16 * first + 256 * g, x, dot);
                two_chunks<1>(strip + 16 * first + 256 * g + 64, x, dot);
            }
            add_scaled(strip + 512 + 8 * first, dot, a.scale + b * W, sum);
        }
        store(sum, first, y, stride);
    }
};

}  // namespace

void GS_NEON(const uint8_t* strip, const Activations& a, float* y, int64_t stride) noexcept {
    by_width<Kernel>(strip, a, y, stride);
}

}  // namespace gs::matmul_q8_0
GS_END_NEON
#endif
