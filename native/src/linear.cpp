// See linear.h. Work is cut into chunks of some strips by some tokens, so that a strip (the weights) stays
// in the first cache while the tokens of a chunk pass, and a slow thread holds nobody up for long.
#include "linear.h"

#include <algorithm>
#include <cstring>

#include "../kernels/quantize/quantize.h"

namespace gs {
namespace {

constexpr int kChunkTokens = 20 * kTile;  // whole tiles; int8 rows of a chunk stay in the second cache
constexpr int64_t kChunkWork = 1 << 19;  // multiply-adds that make a chunk worth handing out

FloatFormat float_format(int32_t format) noexcept {
    return format == kF32 ? FloatFormat::f32 : format == kF16 ? FloatFormat::f16 : FloatFormat::bf16;
}

// How an input's parts, their rows and a matrix's units are shared out: the same for every part, by an average one.
struct Shares {
    int token_chunks;
    int64_t group;   // units of a chunk
    int64_t groups;  // of one part's rows

    Shares(const Input& x, int most_tokens, int64_t units, int64_t unit_work, int threads) noexcept {
        int widest = 0;
        for (const Part& part : x.parts()) widest = std::max(widest, part.end - part.begin);
        const auto parts = static_cast<int>(x.parts().size());
        token_chunks = (widest + most_tokens - 1) / most_tokens;
        const int tokens = std::max(1, std::min(x.tokens() / parts, most_tokens));
        group = units_per_chunk(units, unit_work * tokens, threads);
        groups = (units + group - 1) / group;
    }
    int count(const Input& x) const noexcept {
        return static_cast<int>(groups * token_chunks * static_cast<int64_t>(x.parts().size()));
    }
};

void packed_linear(Threads& threads, const gs_matrix& w, Input& x, float* y, int64_t stride, int64_t first,
                   int64_t last) {
    const PackedFormat format = packed_format(w.format);
    const Activations& a = x.quantized(threads);
    const int64_t strip = strip_bytes(format, w.columns), strips_a_copy = (w.rows + kStrip - 1) / kStrip;
    const int64_t begin = first / kStrip, end = (last + kStrip - 1) / kStrip;
    const Shares shares(x, kChunkTokens, end - begin, w.columns * kStrip, threads.count());
    threads.run(shares.count(x), [&](int chunk, int) noexcept {
        const int64_t row_chunk = chunk / shares.groups;
        const Part& part = x.parts()[static_cast<size_t>(row_chunk / shares.token_chunks)];
        const int t0 = part.begin + static_cast<int>(row_chunk % shares.token_chunks) * kChunkTokens;
        const int t1 = std::min(part.end, t0 + kChunkTokens);
        const uint8_t* data = static_cast<const uint8_t*>(w.data) + part.copy * strips_a_copy * strip;
        const int64_t from = begin + chunk % shares.groups * shares.group, to = std::min(end, from + shares.group);
        for (int64_t s = from; s < to; ++s) {
            const int64_t row = s * kStrip;
            const bool whole = row >= first && row + kStrip <= last;
            for (int t = t0, width = 0; t < t1; t += width) {
                const Activations tile = a.tile(t, t1);
                width = tile.tokens;
                if (whole) {
                    // Asked for now: a store that waits for its line holds up the tile's sums behind it.
                    for (int i = 0; i < width; ++i) __builtin_prefetch(y + (t + i) * stride + row - first, 1);
                    format.run(data + s * strip, tile, y + t * stride + row - first, stride);
                    continue;
                }
                float edge[kTile * kStrip];
                format.run(data + s * strip, tile, edge, kStrip);
                for (int i = 0; i < tile.tokens; ++i)
                    for (int64_t r = std::max(row, first); r < std::min(row + kStrip, last); ++r)
                        y[(t + i) * stride + r - first] = edge[i * kStrip + r - row];
            }
        }
    });
}

}  // namespace

int64_t units_per_chunk(int64_t units, int64_t work, int threads) noexcept {
    const int64_t enough = std::max<int64_t>(1, kChunkWork / std::max<int64_t>(1, work));
    return std::max<int64_t>(1, std::min(enough, units / (4 * threads)));
}

const float* Input::rows() {
    if (!from_) return x_;
    float* own = gathered_.get(tokens_ * columns_);
    for (int t = 0; t < tokens_; ++t)
        std::memcpy(own + t * columns_, row(t), sizeof(float) * static_cast<size_t>(columns_));
    x_ = own, from_ = nullptr;
    return own;
}

const Activations& Input::quantized(Threads& threads) {
    if (quantized_) return view_;
    static const Quantize quantize = pick(quantize_table(), isa());
    const int blocks = static_cast<int>(columns_ / kBlock);
    const int64_t count = static_cast<int64_t>(blocks) * tokens_;
    view_ = {q_.get(count * kBlock), scale_.get(count), sum_.get(count), eight_.get(count),
             halves_.get(2 * count), blocks,            tokens_};
    tiles_.clear();
    for (const Part& part : parts_) {
        for (int chunk = part.begin; chunk < part.end; chunk += kChunkTokens) {  // as packed_linear cuts them
            const int end = std::min(part.end, chunk + kChunkTokens);
            for (int t = chunk; t < end; t += tile_width(end - t)) tiles_.push_back({t, end});
        }
    }
    const int tiles = static_cast<int>(tiles_.size());
    const int group = static_cast<int>(std::max<int64_t>(1, 16384 / std::max<int64_t>(1, columns_)));
    threads.run((tiles + group - 1) / group, [&](int chunk, int) noexcept {
        for (int i = chunk * group; i < std::min(tiles, (chunk + 1) * group); ++i) {
            const Tile at = tiles_[static_cast<size_t>(i)];
            const Activations tile = view_.tile(at.begin, at.end);
            for (int t = 0; t < tile.tokens; ++t) quantize(row(at.begin + t), tile, t);
        }
    });
    quantized_ = true;
    return view_;
}

void linear(Threads& threads, const gs_matrix& w, Input& x, float* y, int64_t stride, int64_t first, int64_t last) {
    if (!x.tokens() || first >= last) return;
    if (w.packed) return packed_linear(threads, w, x, y, stride, first, last);
    static const MatmulFloat matmul = pick(matmul_float_table(), isa());
    const FloatFormat format = float_format(w.format);
    const int64_t row_bytes = w.columns * file_format(w.format).bytes;
    const float* rows = x.rows();
    constexpr int kRows = 4, kTokens = 12;  // whole tiles of every kernel
    constexpr int64_t kInputBytes = 192 << 10;  // of a chunk's tokens, which stay in the second cache
    const int64_t kept = kInputBytes / (w.columns * static_cast<int64_t>(sizeof(float))) / kTokens * kTokens;
    const int most = static_cast<int>(std::max<int64_t>(kTokens, kept));
    const Shares shares(x, most, (last - first + kRows - 1) / kRows, w.columns * kRows, threads.count());
    threads.run(shares.count(x), [&](int chunk, int) noexcept {
        const int group = chunk / shares.token_chunks;  // all tokens pass a group's weights before the next group
        const Part& part = x.parts()[static_cast<size_t>(group / shares.groups)];
        const int t0 = part.begin + chunk % shares.token_chunks * most, t1 = std::min(part.end, t0 + most);
        if (t0 >= t1) return;
        const int64_t from = group % shares.groups * shares.group * kRows;
        const int64_t to = std::min(last - first, from + shares.group * kRows);
        const uint8_t* data = static_cast<const uint8_t*>(w.data) + (part.copy * w.rows + first + from) * row_bytes;
        matmul(format, data, static_cast<int>(to - from), w.columns, rows + t0 * x.columns(), x.columns(), t1 - t0,
               y + t0 * stride + from, stride);
    });
}

}  // namespace gs
