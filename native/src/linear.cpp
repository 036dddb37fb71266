// See linear.h. Work is cut into chunks of some strips by some tokens, so that a strip (the weights) stays
// in the first cache while the tokens of a chunk pass, and a slow thread holds nobody up for long.
#include "linear.h"

#include <algorithm>

#include "../kernels/quantize/quantize.h"

namespace gs {
namespace {

constexpr int kChunkTokens = 128;     // int8 rows of a chunk stay in the second cache
constexpr int64_t kChunkWork = 1 << 19;  // multiply-adds that make a chunk worth handing out

FloatFormat float_format(int32_t format) noexcept {
    return format == kF32 ? FloatFormat::f32 : format == kF16 ? FloatFormat::f16 : FloatFormat::bf16;
}

void packed_linear(Threads& threads, const gs_matrix& w, Input& x, float* y, int64_t stride, int64_t first,
                   int64_t last, int copy) {
    const PackedFormat format = packed_format(w.format);
    const Activations& a = x.quantized(threads);
    const int64_t strip = strip_bytes(format, w.columns), strips_a_copy = (w.rows + kStrip - 1) / kStrip;
    const uint8_t* data = static_cast<const uint8_t*>(w.data) + copy * strips_a_copy * strip;
    const int64_t begin = first / kStrip, end = (last + kStrip - 1) / kStrip;
    const int token_chunks = (a.tokens + kChunkTokens - 1) / kChunkTokens;
    const int64_t work = w.columns * kStrip * std::min(a.tokens, kChunkTokens);
    const int64_t group = units_per_chunk(end - begin, work, threads.count());
    const int64_t groups = (end - begin + group - 1) / group;
    threads.run(static_cast<int>(groups * token_chunks), [&](int chunk, int) noexcept {
        const int t0 = static_cast<int>(chunk / groups) * kChunkTokens, t1 = std::min(a.tokens, t0 + kChunkTokens);
        const int64_t from = begin + chunk % groups * group, to = std::min(end, from + group);
        for (int64_t s = from; s < to; ++s) {
            const int64_t row = s * kStrip;
            const bool whole = row >= first && row + kStrip <= last;
            for (int t = t0; t < t1; t += kTile) {
                const Activations tile = a.tile(t);
                if (whole) {
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

const Activations& Input::quantized(Threads& threads) {
    if (quantized_) return view_;
    static const Quantize quantize = pick(quantize_table(), isa());
    const int blocks = static_cast<int>(columns_ / kBlock);
    const int64_t count = static_cast<int64_t>(blocks) * tokens_;
    view_ = {q_.get(count * kBlock), scale_.get(count), sum_.get(count), eight_.get(count),
             halves_.get(2 * count), blocks,            tokens_};
    const int chunk_tokens = kTile * static_cast<int>(std::max<int64_t>(1, 16384 / std::max<int64_t>(1, columns_)));
    threads.run((tokens_ + chunk_tokens - 1) / chunk_tokens, [&](int chunk, int) noexcept {
        for (int t = chunk * chunk_tokens; t < std::min(tokens_, (chunk + 1) * chunk_tokens); ++t)
            quantize(x_ + t * columns_, view_.tile(t / kTile * kTile), t % kTile);
    });
    quantized_ = true;
    return view_;
}

void linear(Threads& threads, const gs_matrix& w, Input& x, float* y, int64_t stride, int64_t first, int64_t last,
            int copy) {
    if (!x.tokens() || first >= last) return;
    if (w.packed) return packed_linear(threads, w, x, y, stride, first, last, copy);
    static const MatmulFloat matmul = pick(matmul_float_table(), isa());
    const FloatFormat format = float_format(w.format);
    const int64_t row_bytes = w.columns * file_format(w.format).bytes;
    const uint8_t* data = static_cast<const uint8_t*>(w.data) + (copy * w.rows + first) * row_bytes;
    constexpr int kRows = 4;  // a tile of the kernel
    const int64_t units = (last - first + kRows - 1) / kRows;
    const int64_t group = units_per_chunk(units, w.columns * kRows * x.tokens(), threads.count()) * kRows;
    threads.run(static_cast<int>((last - first + group - 1) / group), [&](int chunk, int) noexcept {
        const int64_t from = chunk * group, to = std::min(last - first, from + group);
        matmul(format, data + from * row_bytes, static_cast<int>(to - from), w.columns, x.rows(), x.columns(),
               x.tokens(), y + from, stride);
    });
}

}  // namespace gs
