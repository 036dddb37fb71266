// See drafter.h.
#include "drafter.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace gs {

void Drafter::step(Model& target, const Cache& cache, const gs_batch& batch, const float* given, float* logits,
                   float* next) {
    const int rows = batch.num_tokens, wanted = batch.num_logit_rows, width = drafter_.spec.hidden_size;
    const int64_t wide = target.spec().hidden_size;
    const size_t bytes = sizeof(float) * static_cast<size_t>(wide);
    float *embedded = embedded_.get(rows * wide), *joined = joined_.get(rows * 2 * wide);
    target.embed(batch.token_ids, rows, embedded);
    for (int t = 0; t < rows; ++t) {
        std::memcpy(joined + t * 2 * wide, embedded + t * wide, bytes);
        std::memcpy(joined + (t * 2 + 1) * wide, given + t * wide, bytes);
    }
    float *x = model_.x_.get(static_cast<int64_t>(rows) * width), *h = model_.h_.get(static_cast<int64_t>(rows) * width);
    in_.set(joined, rows, 2 * wide);
    linear(model_.threads_, drafter_.pre_projection, in_, x);
    Context context{Rows::of(batch), {}, nullptr, 0, drafter_.spec.num_layers};
    model_.turn_rows(context);
    for (int i = 0; i < drafter_.spec.num_layers; ++i) {
        const gs_layer& layer = model_.layers_[static_cast<size_t>(i)];
        model_.norm_rows(x, layer.input_norm, rows, width, h);
        model_.hidden_in_.set(h, rows, width);
        model_.decoder_layer(layer, i, x, model_.hidden_in_, context, cache);
    }
    model_.norm_rows(x, drafter_.spec.norm, rows, width, h);
    for (int r = 0; r < wanted; ++r)  // ascending, so a row never lands on one still to come
        std::memmove(h + static_cast<int64_t>(r) * width, h + static_cast<int64_t>(batch.logit_rows[r]) * width,
                     sizeof(float) * static_cast<size_t>(width));
    in_.set(h, wanted, width);
    if (drafter_.num_centroids) {
        centroid_head(in_, logits);
    } else {
        linear(model_.threads_, drafter_.spec.head, in_, logits);
    }
    model_.cap(logits, wanted);
    linear(model_.threads_, drafter_.post_projection, in_, next);
}

// Scores of the tokens in the best clusters; every other token gets their minimum less 1 (docs/MODEL.md 8.2).
void Drafter::centroid_head(Input& x, float* logits) {
    static const MatmulFloat matmul = pick(matmul_float_table(), isa());
    const int clusters = drafter_.num_centroids, best = drafter_.centroid_top_k;
    const int64_t vocab = drafter_.spec.vocab_size, size = vocab / clusters, width = drafter_.spec.hidden_size;
    const gs_matrix& table = drafter_.spec.embed_tokens;
    const int64_t row_bytes = table.columns / file_format(table.format).block * file_format(table.format).bytes;
    float* cluster_scores = clusters_.get(static_cast<int64_t>(x.tokens()) * clusters);
    linear(model_.threads_, drafter_.centroids, x, cluster_scores);
    float *rows = rows_.get(model_.threads_.count() * size * width), *scores = scores_.get(best * size);
    std::vector<int> order(static_cast<size_t>(clusters));
    for (int t = 0; t < x.tokens(); ++t) {
        const float *own = cluster_scores + static_cast<int64_t>(t) * clusters, *query = x.rows() + t * width;
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + best, order.end(),
                          [&](int a, int b) { return own[a] > own[b] || (own[a] == own[b] && a < b); });
        model_.threads_.run(best, [&](int c, int thread) noexcept {
            const int32_t* tokens = drafter_.token_ordering + order[static_cast<size_t>(c)] * size;
            float* unpacked = rows + thread * size * width;
            for (int64_t i = 0; i < size; ++i)
                unpack_row(table.format, static_cast<const uint8_t*>(table.data) + tokens[i] * row_bytes, width,
                           unpacked + i * width);
            matmul(FloatFormat::f32, reinterpret_cast<const uint8_t*>(unpacked), static_cast<int>(size), width, query,
                   width, 1, scores + c * size, size);
        });
        float* out = logits + t * vocab;
        std::fill(out, out + vocab, *std::min_element(scores, scores + best * size) - 1.0f);
        for (int c = 0; c < best; ++c)
            for (int64_t i = 0; i < size; ++i)
                out[drafter_.token_ordering[order[static_cast<size_t>(c)] * size + i]] = scores[c * size + i];
    }
}

}  // namespace gs
