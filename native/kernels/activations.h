// Rows of activations as the quantized matrix kernels read them: int8 in blocks of 32 with a scale each.
//
// Tokens lie in tiles of at most kTile (w tokens). In the tile that begins with
// token t0:  q [blocks][w][32] from q + t0*blocks*32;  scale, sum_scaled [blocks][w] from + t0*blocks;
// eight [blocks][w] = 8 * sum of the block's q;  halves [blocks][w][2] = 32 * sum of each half block.
// At the level i8mm (isa.h) the tokens of a whole tile lie in pairs of 64 bytes: per 16 columns, columns 0-3 and
// 8-11 of the first, the same of the second, then columns 4-7 and 12-15 of both.
// Values are in [-127, 127]: -128 would overflow a product of pairs in int16.
#pragma once

#include <cstdint>

namespace gs {

// Tokens that share one pass over a strip of weights: as many as a kernel has registers for their sums.
#if defined(__aarch64__)
constexpr int kTile = 4;
#else
constexpr int kTile = 6;
#endif
constexpr int kStrip = 16;  // rows of a matrix that lie interleaved
constexpr int kBlock = 32;  // values that share a scale

// The width of the next tile of `left` tokens. The last two are about equal: a pass for one or two tokens unpacks
// the weights for them alone. On ARM whole tiles come first, since the level i8mm lays those in pairs.
constexpr int tile_width(int left) noexcept {
    if (left <= kTile) return left;
    return kTile > 4 && left < 2 * kTile ? (left + 1) / 2 : kTile;
}

struct Activations {
    int8_t* q;
    float* scale;
    float* sum_scaled;  // scale * sum of q
    int32_t* eight;
    int32_t* halves;
    int blocks;  // of 32 columns
    int tokens;

    // The tile that begins with token t0, of those up to `end` that meet the same matrix.
    Activations tile(int t0, int end) const noexcept {
        const int64_t at = static_cast<int64_t>(t0) * blocks;
        const int w = tile_width(end - t0);
        return {q + at * kBlock, scale + at, sum_scaled + at, eight + at, halves + 2 * at, blocks, w};
    }
};

// y[t * stride + r] for the 16 rows r of one strip and the tokens t of one tile.
using MatmulTile = void (*)(const uint8_t* strip, const Activations& tile, float* y, int64_t stride) noexcept;

}  // namespace gs
