// matmul_q8_0 in NEON: four rows a register.
#include "matmul_q8_0.h"

#ifdef GS_ARM64
#include "../neon.h"
GS_BEGIN_NEON
namespace gs::matmul_q8_0 {
namespace {

#ifdef GS_DOTPROD
// The dot products of four rows with one token, eight columns at a time.
struct Sums {
    Dots dots;
    static Sums zero() noexcept { return {Dots::from(0)}; }
    template <int Lane>
    void add(int8x16_t w, int8x16_t next, const Columns& x) noexcept {
        dots.add<Lane>(w, x);
        dots.add<Lane + 1>(next, x);
    }
    int32x4_t total() const noexcept { return dots.total(); }
};
#else
// Two products of -128 and 127 still fit int16, three do not.
struct Sums {
    int32x4_t low, high;
    static Sums zero() noexcept { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    template <int Lane>
    void add(int8x16_t w, int8x16_t next, const Columns& x) noexcept {
        const int8x16_t q = four<Lane>(x), next_q = four<Lane + 1>(x);
        const int16x8_t first = vmull_s8(vget_low_s8(w), vget_low_s8(q));
        low = vpadalq_s16(low, vmlal_s8(first, vget_low_s8(next), vget_low_s8(next_q)));
        high = vpadalq_s16(high, vmlal_high_s8(vmull_high_s8(w, q), next, next_q));
    }
    int32x4_t total() const noexcept { return vpaddq_s32(low, high); }
};
#endif

// Two chunks of 64 bytes: the columns 4 * Lane .. of the 16 columns x.
template <int Lane, int H, int W>
inline void two_chunks(const uint8_t* chunk, const Columns (&x)[W], Sums (&dot)[H][W]) noexcept {
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
        const int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(chunk + 16 * h));
        const int8x16_t next = vreinterpretq_s8_u8(vld1q_u8(chunk + 16 * h + 64));
#pragma GCC unroll 4
        for (int t = 0; t < W; ++t) dot[h][t].template add<Lane>(w, next, x[t]);
    }
}

struct Kernel {
    template <int H, int W>
    static void tile(const uint8_t* strip, const Activations& a, int first, float* y, int64_t stride) noexcept {
        float32x4_t sum[H][W];
        clear(sum);
        const int8_t* q = a.q;
        for (int b = 0; b < a.blocks; ++b, q += W * kBlock, strip += kQ8_0Bytes) {
            Sums dot[H][W];
            for (int h = 0; h < H; ++h)
                for (int t = 0; t < W; ++t) dot[h][t] = Sums::zero();
#pragma GCC unroll 2
            for (int g = 0; g < 2; ++g) {
                Columns x[W];
                for (int t = 0; t < W; ++t) x[t] = columns(q + t * kBlock + 16 * g);
                two_chunks<0>(strip + 16 * first + 256 * g, x, dot);
                two_chunks<2>(strip + 16 * first + 256 * g + 128, x, dot);
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
