// quantize in NEON; for i8mm it lays the tokens of a whole tile in pairs (../activations.h).
#include "quantize.h"

#ifdef GS_ARM64
#include <limits>

#include "../neon.h"
GS_BEGIN_NEON
namespace gs::quantize {
namespace {

// The 16 columns from 16 * g of a block, whose w tokens begin at `block`; these are token t's.
inline void lay(int8_t* block, int w, int t, int g, int8x16_t q) noexcept {
#ifdef GS_I8MM
    if (w == kTile) {
        int8_t* at = block + (t - t % 2) * kBlock + 32 * g + 8 * (t % 2);
        const int32x4_t four = vreinterpretq_s32_s8(q);
        vst1_s8(at, vreinterpret_s8_s32(vuzp1_s32(vget_low_s32(four), vget_high_s32(four))));
        vst1_s8(at + 16, vreinterpret_s8_s32(vuzp2_s32(vget_low_s32(four), vget_high_s32(four))));
        return;
    }
#else
    static_cast<void>(w);
#endif
    vst1q_s8(block + t * kBlock + 16 * g, q);
}

}  // namespace

void GS_NEON(const float* x, const Activations& tile, int t) noexcept {
    const float32x4_t zero = vdupq_n_f32(0);
    for (int b = 0; b < tile.blocks; ++b, x += kBlock) {
        const int64_t at = static_cast<int64_t>(b) * tile.tokens + t;
        float32x4_t v[8], peaks = zero, check = zero;
        for (int i = 0; i < 8; ++i) {
            v[i] = vld1q_f32(x + 4 * i);
            peaks = vmaxq_f32(peaks, vabsq_f32(v[i]));
            check = vfmaq_f32(check, v[i], zero);  // NaN unless finite
        }
        const bool finite = vminvq_u32(vceqq_f32(check, check)) != 0;
        const float peak = vmaxvq_f32(peaks);
        const float scale = finite ? peak / 127.0f : std::numeric_limits<float>::quiet_NaN();
        const float inverse = finite && peak > 1e-30f ? 127.0f / peak : 0.0f;
        int32x4_t whole[8];
        for (int i = 0; i < 8; ++i) whole[i] = vcvtnq_s32_f32(finite ? vmulq_n_f32(v[i], inverse) : zero);
        int half[2];
        for (int g = 0; g < 2; ++g) {
            const int32x4_t* four = whole + 4 * g;
            half[g] = vaddvq_s32(vaddq_s32(vaddq_s32(four[0], four[1]), vaddq_s32(four[2], four[3])));
            const int16x8_t low = vcombine_s16(vmovn_s32(four[0]), vmovn_s32(four[1]));
            const int16x8_t high = vcombine_s16(vmovn_s32(four[2]), vmovn_s32(four[3]));
            lay(tile.q + (at - t) * kBlock, tile.tokens, t, g, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        }
        tile.scale[at] = scale;
        tile.sum_scaled[at] = scale * static_cast<float>(half[0] + half[1]);
        tile.eight[at] = 8 * (half[0] + half[1]);
        tile.halves[2 * at] = 32 * half[0];
        tile.halves[2 * at + 1] = 32 * half[1];
    }
}

}  // namespace gs::quantize
GS_END_NEON
#endif
