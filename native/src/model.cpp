// The forward itself; see model.h. attention.cpp and feed_forward.cpp hold the two halves of a layer.
#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace gs {

Rows Rows::of(const gs_batch& batch) {
    Rows rows;
    rows.position.resize(static_cast<size_t>(batch.num_tokens));
    for (int s = 0; s < batch.num_sequences; ++s) {
        const gs_sequence& sequence = batch.sequences[s];
        for (int i = 0; i < sequence.count; ++i)
            rows.position[static_cast<size_t>(sequence.start + i)] = sequence.position + i;
        rows.spans.push_back({&sequence, sequence.start, sequence.start + sequence.count});
    }
    rows.group();
    return rows;
}

Rows Rows::keep(const int32_t* kept, int count) const {
    Rows rows;
    for (int i = 0; i < count; ++i) rows.position.push_back(position[static_cast<size_t>(kept[i])]);
    for (const Span& span : spans) {
        const int from = static_cast<int>(std::lower_bound(kept, kept + count, span.start) - kept);
        const int to = static_cast<int>(std::lower_bound(kept, kept + count, span.stop) - kept);
        if (from < to) rows.spans.push_back({span.sequence, from, to});
    }
    rows.group();
    return rows;
}

void Rows::group() {
    for (const Span& span : spans) {
        const int adapter = span.sequence->adapter;
        if (!adapter) continue;
        const auto same = [&](const AdapterRows& one) { return one.adapter == adapter; };
        auto own = std::find_if(adapted.begin(), adapted.end(), same);
        if (own == adapted.end()) own = adapted.insert(own, {adapter, {}});
        for (int t = span.start; t < span.stop; ++t) own->rows.push_back(t);
    }
}

void rotate(float* head, int dim, const float* cosine, const float* sine, int pairs) noexcept {
    float* other = head + dim / 2;
    for (int i = 0; i < pairs; ++i) {
        const float a = head[i], b = other[i];
        head[i] = a * cosine[i] - b * sine[i];
        other[i] = b * cosine[i] + a * sine[i];
    }
}

const Turn& turn_of(const Context& context, const gs_layer& layer) noexcept {
    size_t i = 0;
    while (context.turns[i].rope != layer.rope) ++i;  // turn_rows made one for every layer
    return context.turns[i];
}

Model::Model(const gs_spec& spec, const gs_layer* layers, Threads& threads)
    : spec_(spec),
      layers_(layers, layers + spec.num_layers),
      threads_(threads),
      rows_(pick(rows_table(), isa())),
      attention_(pick(attention_table(), isa())),
      kv_(pick(kv_table(), isa())) {}

int64_t Model::work_bytes() const noexcept {
    int64_t total = 0;
    for (const Input* input : {&hidden_in_, &attention_in_, &inner_in_, &expert_in_}) total += input->bytes();
    for (const Scratch<float>* scratch : {&x_, &h_, &q_, &k_, &v_, &y_, &blended_, &gate_, &up_, &kept_, &table_,
                                          &context_, &partials_, &routed_, &answers_})
        total += scratch->bytes();
    return total;
}

void Model::forward(Cache& cache, const gs_batch& batch, float* logits, float* hidden) {
    const int width = spec_.hidden_size, wanted = batch.num_logit_rows;
    int rows = batch.num_tokens;
    float *x = x_.get(static_cast<int64_t>(rows) * width), *h = h_.get(static_cast<int64_t>(rows) * width);
    embed(batch.token_ids, rows, x);
    std::vector<int32_t> kept_ids(static_cast<size_t>(wanted));
    float* kept = kept_.get(static_cast<int64_t>(wanted) * width);
    for (int i = 0; i < wanted; ++i) {
        kept_ids[static_cast<size_t>(i)] = batch.token_ids[batch.logit_rows[i]];
        std::memcpy(kept + static_cast<int64_t>(i) * width, x + static_cast<int64_t>(batch.logit_rows[i]) * width,
                    sizeof(float) * static_cast<size_t>(width));
    }
    Context context{Rows::of(batch), {}, nullptr, 0, spec_.last_kv_layer};
    turn_rows(context);
    cache.reach(1 + *std::max_element(context.rows.position.begin(), context.rows.position.end()));
    per_layer_inputs(batch.token_ids, x, context);
    for (int i = 0; i < spec_.num_layers; ++i) {
        const gs_layer& layer = layers_[static_cast<size_t>(i)];
        norm_rows(x, layer.input_norm, rows, width, h);
        hidden_in_.set(h, rows, width);
        if (layer.owns_kv) write_kv(layer, hidden_in_, context, cache);
        if (i == spec_.last_kv_layer) {
            // No K/V is written from here on: a row whose logits nobody reads has done its work.
            if (!wanted) return;
            for (int r = 0; r < wanted; ++r) {  // ascending, so a row never lands on one still to come
                const size_t bytes = sizeof(float) * static_cast<size_t>(width);
                const int64_t from = static_cast<int64_t>(batch.logit_rows[r]) * width;
                std::memmove(x + static_cast<int64_t>(r) * width, x + from, bytes);
                std::memmove(h + static_cast<int64_t>(r) * width, h + from, bytes);
            }
            rows = wanted;
            hidden_in_.set(h, rows, width);
            context = {context.rows.keep(batch.logit_rows, wanted), {}, nullptr, i, spec_.num_layers - i};
            turn_rows(context);
            per_layer_inputs(kept_ids.data(), kept, context);
        }
        decoder_layer(layer, i, x, hidden_in_, context, cache);
    }
    norm_rows(x, spec_.norm, rows, width, h);
    if (hidden) std::memcpy(hidden, h, sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(width));
    if (!logits) return;
    hidden_in_.set(h, rows, width);
    linear(threads_, spec_.head, hidden_in_, logits);
    cap(logits, rows);
}

void Model::cap(float* logits, int rows) {
    if (spec_.final_logit_softcapping <= 0) return;
    const int64_t total = static_cast<int64_t>(rows) * spec_.vocab_size, piece = 16384;
    threads_.run(static_cast<int>((total + piece - 1) / piece), [&](int chunk, int) noexcept {
        const int64_t at = chunk * piece;
        rows_.softcap(logits + at, std::min(piece, total - at), spec_.final_logit_softcapping);
    });
}

void Model::decoder_layer(const gs_layer& layer, int index, float* x, Input& h, Context& context,
                          const Cache& cache) {
    const int rows = context.rows.count(), width = spec_.hidden_size, heads = layer.num_heads * layer.head_dim;
    float *q = q_.get(static_cast<int64_t>(rows) * heads), *y = y_.get(static_cast<int64_t>(rows) * width);
    float* blended = blended_.get(static_cast<int64_t>(rows) * heads);
    queries(layer, h, context, cache.mixed(layer.pool), q);
    attend(layer, q, context, cache, blended);
    attention_in_.set(blended, rows, heads);
    project(layer.o_proj, attention_in_, context.rows, y);
    add_normed(x, y, layer.post_attention_norm, rows);
    feed_forward(layer, x, context.rows, y);
    add_normed(x, y, layer.post_feedforward_norm, rows);
    if (const int ple = spec_.per_layer_width) {
        hidden_in_.set(x, rows, width);
        float* gate = gate_.get(static_cast<int64_t>(rows) * ple);
        project(layer.per_layer_input_gate, hidden_in_, context.rows, gate);
        each_row(rows, [&](int t) noexcept {
            const int64_t row = static_cast<int64_t>(t) * context.num_layers + index - context.first_layer;
            rows_.gelu_mul(gate + static_cast<int64_t>(t) * ple, context.per_layer + row * ple, ple);
        });
        inner_in_.set(gate, rows, ple);
        project(layer.per_layer_projection, inner_in_, context.rows, y);
        add_normed(x, y, layer.post_per_layer_input_norm, rows);
    }
    each_row(rows, [&](int t) noexcept {
        float* row = x + static_cast<int64_t>(t) * width;
        for (int i = 0; i < width; ++i) row[i] *= layer.layer_scalar;
    });
}

void Model::embed(const int32_t* ids, int rows, float* out) {
    const int width = spec_.hidden_size;
    const gs_matrix& table = spec_.embed_tokens;
    const FileFormat format = file_format(table.format);
    const float scale = static_cast<float>(std::sqrt(static_cast<double>(width)));
    each_row(rows, [&](int t) noexcept {
        const int64_t bytes = table.columns / format.block * format.bytes;
        float* row = out + static_cast<int64_t>(t) * width;
        TableRow stored;
        unpack_row(table.format, stored.at(table, ids[t] * bytes, bytes), width, row);
        for (int i = 0; i < width; ++i) row[i] *= scale;
    });
}

// For each row its inputs to the layers of the context: half from the token's own row of a table, half
// from a projection of the embedding (docs/MODEL.md 6).
void Model::per_layer_inputs(const int32_t* ids, const float* embedding, Context& context) {
    const int ple = spec_.per_layer_width, rows = context.rows.count(), width = spec_.hidden_size;
    if (!ple || !context.num_layers) return;
    const int64_t total = static_cast<int64_t>(context.num_layers) * ple, begin = context.first_layer * int64_t{ple};
    float* mixed = context_.get(rows * total);
    inner_in_.set(embedding, rows, width);
    project(spec_.per_layer_model_projection, inner_in_, context.rows, mixed, total, begin, begin + total);
    const gs_matrix& table = spec_.embed_tokens_per_layer;
    const FileFormat format = file_format(table.format);
    const int64_t row_bytes = table.columns / format.block * format.bytes;
    const int64_t from = begin / format.block, until = (begin + total + format.block - 1) / format.block;
    const int64_t read = (until - from) * format.block, skipped = begin - from * format.block;
    float* tokens = table_.get(rows * read);  // whole blocks: the first may begin before the first layer
    const auto down = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
    const auto up = static_cast<float>(std::sqrt(static_cast<double>(ple)));
    const auto half = static_cast<float>(std::sqrt(0.5));
    each_row(rows, [&](int t) noexcept {
        float* token = tokens + t * read;
        const int64_t at = ids[t] * row_bytes + from * format.bytes;
        TableRow stored;
        unpack_row(table.format, stored.at(table, at, (until - from) * format.bytes), read, token);
        for (int l = 0; l < context.num_layers; ++l) {
            float* out = mixed + t * total + static_cast<int64_t>(l) * ple;
            for (int i = 0; i < ple; ++i) out[i] *= down;
            rows_.norm(out, spec_.per_layer_projection_norm, spec_.rms_norm_eps, ple, out);
            const float* own = token + skipped + static_cast<int64_t>(l) * ple;
            for (int i = 0; i < ple; ++i) out[i] = (out[i] + own[i] * up) * half;
        }
    });
    context.per_layer = mixed;
}

void Model::turn_rows(Context& context) const {
    for (const gs_layer& layer : layers_) {
        const auto same = [&](const Turn& turn) { return turn.rope == layer.rope; };
        if (std::any_of(context.turns.begin(), context.turns.end(), same)) continue;
        Turn turn{layer.rope, layer.rope_pairs, {}, {}};
        for (const int position : context.rows.position) {
            for (int i = 0; i < layer.rope_pairs; ++i) {
                const float angle = static_cast<float>(position) * layer.rope[i];
                turn.cosine.push_back(std::cos(angle));
                turn.sine.push_back(std::sin(angle));
            }
        }
        context.turns.push_back(std::move(turn));
    }
}

void Model::norm_rows(const float* x, const float* weight, int rows, int width, float* out) {
    each_row(rows, [&](int t) noexcept {
        const int64_t at = static_cast<int64_t>(t) * width;
        rows_.norm(x + at, weight, spec_.rms_norm_eps, width, out + at);
    });
}

// x += norm(y) * weight; y is used up.
void Model::add_normed(float* x, float* y, const float* weight, int rows) {
    const int width = spec_.hidden_size;
    each_row(rows, [&](int t) noexcept {
        float *to = x + static_cast<int64_t>(t) * width, *from = y + static_cast<int64_t>(t) * width;
        rows_.norm(from, weight, spec_.rms_norm_eps, width, from);
        for (int i = 0; i < width; ++i) to[i] += from[i];
    });
}

}  // namespace gs
