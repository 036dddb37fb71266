// The C ABI: checks what comes in, keeps exceptions in, and says in words what went wrong.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "../include/gemstead.h"
#include "../kernels/peak/peak.h"
#include "choose.h"
#include "drafter.h"
#include "model.h"
#include "vocabulary.h"

struct gs_model {
    gs_model(const gs_spec& spec, const gs_layer* layers, int count) : threads(count), model(spec, layers, threads) {}
    gs::Threads threads;
    gs::Model model;
    std::unique_ptr<gs::Drafter> drafter;
};

struct gs_cache {
    gs::Cache cache;
};

struct gs_vocabulary {
    gs::Vocabulary words;
};

namespace {

thread_local char last_error[512] = "no error";

gs_status fail(gs_status status, const char* what) noexcept {
    std::snprintf(last_error, sizeof last_error, "%s", what);
    return status;
}

// Runs `work`, which returns nullptr or what is wrong with the arguments.
template <class Work>
gs_status guarded(Work&& work) noexcept {
    try {
        const char* wrong = work();
        return wrong ? fail(GS_BAD_ARGUMENT, wrong) : GS_OK;
    } catch (const std::bad_alloc&) {
        return fail(GS_NO_MEMORY, "the system has no memory left for this; give less context or fewer rows");
    } catch (const std::exception& error) {
        return fail(GS_INTERNAL, error.what());
    } catch (...) {
        return fail(GS_INTERNAL, "an unknown exception");
    }
}

const char* wrong_matrix(const gs_matrix& m, int64_t rows, int64_t columns, int copies = 1) noexcept {
    if (!m.data) return "a matrix of the model is missing";
    const gs::FileFormat format = gs::file_format(m.format);
    if (!format.block || m.columns % format.block) return "a matrix has a format the native engine does not read";
    if (!m.packed && format.block > 1) return "a quantized matrix was not packed";
    return m.rows != rows || m.columns != columns || m.copies != copies ? "a matrix has another shape than its layer" : nullptr;
}

const char* wrong_layer(const gs_spec& spec, const gs_layer& l) noexcept {
    if (l.pool < 0 || l.pool >= spec.num_pools || l.slot < 0 || l.slot >= spec.pools[l.pool].num_layers)
        return "a layer reads the K/V of a pool that is not there";
    if (l.num_kv_heads != spec.pools[l.pool].num_kv_heads || l.head_dim != spec.pools[l.pool].head_dim)
        return "a layer's heads are not those of its pool";
    if (l.owns_kv && spec.pools[l.pool].v_from_k && !(l.v_from_k && l.k_norm))
        return "a pool keeps values alone, and a layer's keys cannot be made from its values";
    if (l.num_kv_heads < 1 || l.num_heads % l.num_kv_heads || l.head_dim < 8 || l.head_dim % 8)
        return "a layer's heads do not fit each other: head_dim must be a multiple of 8";
    if (l.rope_pairs < 0 || l.rope_pairs > l.head_dim / 2) return "a layer turns more pairs than a head has";
    const int64_t width = spec.hidden_size, heads = int64_t{l.num_heads} * l.head_dim;
    const int64_t keys = int64_t{l.num_kv_heads} * l.head_dim, inner = l.intermediate_size;
    const char* wrong = wrong_matrix(l.q_proj, heads, width);
    if (!wrong) wrong = wrong_matrix(l.o_proj, width, heads);
    if (!wrong && l.owns_kv) wrong = wrong_matrix(l.k_proj, keys, width);
    if (!wrong && l.owns_kv && !l.v_from_k) wrong = wrong_matrix(l.v_proj, keys, width);
    if (!wrong) wrong = wrong_matrix(l.gate_proj, inner, width);
    if (!wrong) wrong = wrong_matrix(l.up_proj, inner, width);
    if (!wrong) wrong = wrong_matrix(l.down_proj, width, inner);
    if (!wrong && l.num_experts) {
        if (l.top_k_experts < 1 || l.top_k_experts > l.num_experts || l.expert_size < 1)
            return "a layer picks more experts than it has, or none";
        wrong = wrong_matrix(l.router, l.num_experts, width);
        if (!wrong) wrong = wrong_matrix(l.expert_gate_up, 2 * int64_t{l.expert_size}, width, l.num_experts);
        if (!wrong) wrong = wrong_matrix(l.expert_down, width, l.expert_size, l.num_experts);
    }
    if (!wrong && spec.per_layer_width) {
        wrong = wrong_matrix(l.per_layer_input_gate, spec.per_layer_width, width);
        if (!wrong) wrong = wrong_matrix(l.per_layer_projection, width, spec.per_layer_width);
    }
    return wrong;
}

const char* wrong_spec(const gs_spec& spec, const gs_layer* layers) noexcept {
    if (spec.num_pools < 1 || spec.num_pools > GS_MAX_POOLS) return "a model has 1 to 4 page pools";
    if (spec.num_layers < 1 || spec.last_kv_layer < 0 || spec.last_kv_layer >= spec.num_layers)
        return "a model needs layers, one of which owns K/V";
    if (!gs::file_format(spec.embed_tokens.format).block) return "the embedding has a format that is not read";
    if (spec.embed_tokens.columns != spec.hidden_size || spec.embed_tokens.rows < spec.vocab_size)
        return "the embedding has another shape than the model";
    const char* wrong = wrong_matrix(spec.head, spec.vocab_size, spec.hidden_size);
    if (!wrong && spec.per_layer_width) {
        const int64_t total = int64_t{spec.num_layers} * spec.per_layer_width;
        wrong = wrong_matrix(spec.per_layer_model_projection, total, spec.hidden_size);
        if (!wrong && !gs::file_format(spec.embed_tokens_per_layer.format).block)
            wrong = "the per-layer embedding has a format that is not read";
    }
    for (int i = 0; !wrong && i < spec.num_layers; ++i) wrong = wrong_layer(spec, layers[i]);
    return wrong;
}

const char* wrong_drafter(const gs_spec& target, const gs_drafter& d, const gs_layer* layers) noexcept {
    const gs_spec& spec = d.spec;
    const int64_t width = spec.hidden_size, wide = target.hidden_size, vocab = spec.vocab_size;
    if (spec.num_pools != target.num_pools || spec.per_layer_width || spec.num_layers < 1)
        return "a drafter has layers, the page pools of its model and no per-layer embedding";
    const char* wrong = wrong_matrix(d.pre_projection, width, 2 * wide);
    if (!wrong) wrong = wrong_matrix(d.post_projection, wide, width);
    for (int i = 0; !wrong && i < spec.num_layers; ++i)
        wrong = layers[i].owns_kv ? "a drafter's layers own no K/V" : wrong_layer(spec, layers[i]);
    if (wrong || !d.num_centroids) return wrong ? wrong : wrong_matrix(spec.head, vocab, width);
    if (d.num_centroids < 0 || vocab % d.num_centroids || d.centroid_top_k < 1 || d.centroid_top_k > d.num_centroids)
        return "a drafter's clusters do not divide its vocabulary";
    if (!gs::file_format(spec.embed_tokens.format).block) return "a drafter's embedding has a format that is not read";
    if (spec.embed_tokens.rows != vocab || spec.embed_tokens.columns != width)
        return "a drafter's embedding has another shape than its vocabulary";
    for (int64_t i = 0; i < vocab; ++i)
        if (d.token_ordering[i] < 0 || d.token_ordering[i] >= vocab) return "a cluster names a token that is not there";
    return wrong_matrix(d.centroids, d.num_centroids, width);
}

bool has_page(const gs::Cache& cache, int32_t pool, int32_t page) noexcept {
    return pool >= 0 && pool < cache.num_pools() && page >= 0 && page < cache.pages(pool);
}

const char* wrong_sequence(const gs_spec& spec, const gs::Cache& cache, const gs_sequence& s) {
    if (s.count < 1 || s.position < 0) return "a sequence has no rows or begins before 0";
    for (int p = 0; p < spec.num_pools; ++p) {
        if (!s.page_tables[p]) return "a sequence has no page table for a pool";
        for (int block = 0; block < s.position / cache.page_tokens(); ++block)  // -1: a window has left it behind
            if (s.page_tables[p][block] < -1 || s.page_tables[p][block] >= cache.pages(p))
                return "a sequence names a page that is not there";
        for (int block = s.position / cache.page_tokens(); block <= (s.position + s.count - 1) / cache.page_tokens(); ++block)
            if (s.page_tables[p][block] < 0 || s.page_tables[p][block] >= cache.pages(p))
                return "a row was to be written into a page that is not there";
    }
    return nullptr;
}

const char* wrong_batch(const gs_spec& spec, const gs::Cache& cache, const gs_batch& batch, int adapters) {
    const int64_t known = spec.per_layer_width ? std::min(spec.embed_tokens.rows, spec.embed_tokens_per_layer.rows)
                                               : spec.embed_tokens.rows;
    for (int t = 0; t < batch.num_tokens; ++t)
        if (batch.token_ids[t] < 0 || batch.token_ids[t] >= known) return "a token id is outside the vocabulary";
    int next = 0;
    for (int s = 0; s < batch.num_sequences; ++s) {
        if (batch.sequences[s].start != next) return "the sequences of a batch must follow each other";
        if (const char* wrong = wrong_sequence(spec, cache, batch.sequences[s])) return wrong;
        if (batch.sequences[s].adapter < 0 || batch.sequences[s].adapter > adapters)
            return "a sequence names an adapter that is not there";
        next += batch.sequences[s].count;
    }
    if (next != batch.num_tokens) return "the rows of a batch must belong to its sequences";
    for (int r = 0; r < batch.num_logit_rows; ++r)
        if (batch.logit_rows[r] < 0 || batch.logit_rows[r] >= next || (r && batch.logit_rows[r] <= batch.logit_rows[r - 1]))
            return "logit rows must ascend within the batch";
    return nullptr;
}

const char* wrong_choice(const gs_choice& c) noexcept {
    if (!c.row || c.vocab_size < 1) return "a choice is among one token at least";
    if (c.top < 0 || c.top > c.vocab_size) return "more of the best tokens are asked for than there are";
    if (c.num_seen < 0 || c.num_biased < 0 || c.num_forbidden < 0) return "a choice names less than no tokens";
    const auto outside = [&](const int32_t* ids, int32_t count) noexcept {
        return std::any_of(ids, ids + count, [&](int32_t id) noexcept { return id < 0 || id >= c.vocab_size; });
    };
    if (outside(c.seen, c.num_seen) || outside(c.biased, c.num_biased) || outside(c.forbidden, c.num_forbidden))
        return "a choice names a token outside the vocabulary";
    return nullptr;
}

}  // namespace

extern "C" {

const char* gs_last_error(void) noexcept { return last_error; }

int32_t gs_layout_bytes(void) noexcept {
    return sizeof(gs_matrix) + sizeof(gs_pool) + sizeof(gs_spec) + sizeof(gs_layer) + sizeof(gs_sequence) +
           sizeof(gs_batch) + sizeof(gs_drafter) + sizeof(gs_term) + sizeof(gs_strings) + sizeof(gs_choice);
}

const char* gs_isa(void) noexcept { return gs::name_of(gs::isa()); }

int64_t gs_packed_bytes(int32_t format, int64_t rows, int64_t columns) noexcept {
    const gs::PackedFormat packed = gs::packed_format(format);
    if (!packed.columns || columns % packed.columns) return 0;
    return (rows + gs::kStrip - 1) / gs::kStrip * gs::strip_bytes(packed, columns);
}

gs_status gs_pack(int32_t format, const void* source, int64_t rows, int64_t columns, void* target) noexcept {
    return guarded([&]() -> const char* {
        if (!gs_packed_bytes(format, rows, columns)) return "a matrix of this format and width is not packed";
        gs::pack(format, static_cast<const uint8_t*>(source), rows, columns, static_cast<uint8_t*>(target));
        return nullptr;
    });
}

gs_status gs_multiply(int32_t format, const void* matrix, int64_t rows, int64_t columns, const float* x,
                      int32_t tokens, int32_t count, int32_t times, float* y) noexcept {
    return guarded([&]() -> const char* {
        gs_matrix w{};
        w.data = matrix, w.format = format, w.packed = gs::file_format(format).block > 1, w.copies = 1;
        w.rows = rows, w.columns = columns;
        if (const char* wrong = wrong_matrix(w, rows, columns)) return wrong;
        if (tokens < 1 || count < 1) return "there must be one row and one thread at least";
        gs::Threads threads(count);
        gs::Input input;
        input.set(x, tokens, columns);
        for (int i = 0; i < times; ++i) gs::linear(threads, w, input, y);
        return nullptr;
    });
}

gs_status gs_peak(int32_t count, int64_t rounds, int64_t* products) noexcept {
    return guarded([&]() -> const char* {
        if (count < 1) return "at least one thread is needed";
        static const gs::Peak peak = gs::pick(gs::peak_table(), gs::isa());
        gs::Threads threads(count);
        std::atomic<int64_t> done{0};
        threads.run(static_cast<int>(std::min<int64_t>(count * rounds, 1 << 20)), [&](int, int) noexcept { done += peak(1); });
        *products = done;
        return nullptr;
    });
}

gs_status gs_unpack_row(int32_t format, const void* row, int64_t columns, float* out) noexcept {
    return guarded([&]() -> const char* {
        const gs::FileFormat file = gs::file_format(format);
        if (!file.block || columns % file.block) return "a row of this format and width is not read";
        gs::unpack_row(format, static_cast<const uint8_t*>(row), columns, out);
        return nullptr;
    });
}

gs_status gs_open(const gs_spec* spec, const gs_layer* layers, int32_t threads, gs_model** out) noexcept {
    return guarded([&]() -> const char* {
        if (threads < 1) return "at least one thread is needed";
        if (const char* wrong = gs::isa_complaint()) return wrong;
        if (const char* wrong = wrong_spec(*spec, layers)) return wrong;
        *out = new gs_model(*spec, layers, threads);
        return nullptr;
    });
}

gs_status gs_add_drafter(gs_model* model, const gs_drafter* drafter, const gs_layer* layers) noexcept {
    return guarded([&]() -> const char* {
        if (const char* wrong = wrong_drafter(model->model.spec(), *drafter, layers)) return wrong;
        model->drafter = std::make_unique<gs::Drafter>(*drafter, layers, model->threads);
        return nullptr;
    });
}

gs_status gs_add_adapter(gs_model* model, const gs_term* terms, int32_t count) noexcept {
    return guarded([&]() -> const char* { return model->model.add_adapter(terms, count); });
}

gs_status gs_draft(gs_model* model, const gs_cache* cache, const gs_batch* batch, const float* given, float* logits,
                   float* next) noexcept {
    return guarded([&]() -> const char* {
        if (!model->drafter) return "the model was opened without a drafter";
        if (batch->num_sequences != batch->num_tokens) return "a draft step has one row a sequence";
        if (const char* wrong = wrong_batch(model->model.spec(), cache->cache, *batch, 0)) return wrong;
        for (int s = 0; s < batch->num_sequences; ++s)
            if (batch->sequences[s].position >= cache->cache.reached()) return "a draft step looks where nothing was read yet";
        if (batch->num_logit_rows) model->drafter->step(model->model, cache->cache, *batch, given, logits, next);
        return nullptr;
    });
}

gs_status gs_new_cache(const gs_model* model, const int32_t* pages, int32_t page_tokens, int32_t format,
                       gs_cache** out) noexcept {
    return guarded([&]() -> const char* {
        const gs_spec& spec = model->model.spec();
        const auto kv = static_cast<gs::KvFormat>(format);
        if (page_tokens < 1) return "a page holds at least one token";
        if (kv != gs::KvFormat::f16 && kv != gs::KvFormat::q8_0) return "K/V are kept as f16 or q8_0";
        for (int p = 0; p < spec.num_pools; ++p)
            if (kv == gs::KvFormat::q8_0 && spec.pools[p].head_dim % gs::kKvBlock)
                return "K/V in q8_0 need heads of a multiple of 32";
        *out = new gs_cache{{spec, model->model.layers(), pages, page_tokens, kv}};
        return nullptr;
    });
}

int64_t gs_cache_bytes(const gs_cache* cache) noexcept { return cache->cache.bytes(); }

int64_t gs_page_bytes(const gs_cache* cache, int32_t pool) noexcept {
    return pool < 0 || pool >= cache->cache.num_pools() ? 0 : cache->cache.page_bytes(pool);
}

gs_status gs_read_page(const gs_cache* cache, int32_t pool, int32_t page, void* out) noexcept {
    if (!has_page(cache->cache, pool, page)) return fail(GS_BAD_ARGUMENT, "there is no such page");
    cache->cache.read_page(pool, page, out);
    return GS_OK;
}

gs_status gs_write_page(gs_cache* cache, int32_t pool, int32_t page, const void* data) noexcept {
    if (!has_page(cache->cache, pool, page)) return fail(GS_BAD_ARGUMENT, "there is no such page");
    cache->cache.write_page(pool, page, data);
    return GS_OK;
}

gs_status gs_forward(gs_model* model, gs_cache* cache, const gs_batch* batch, float* logits, float* hidden) noexcept {
    return guarded([&]() -> const char* {
        if (const char* wrong = wrong_batch(model->model.spec(), cache->cache, *batch, model->model.num_adapters())) return wrong;
        if (batch->num_tokens) model->model.forward(cache->cache, *batch, logits, hidden);
        return nullptr;
    });
}

gs_status gs_choose(const gs_choice* choice, float* work, int32_t* ids, double* logprobs) noexcept {
    return guarded([&]() -> const char* {
        if (const char* wrong = wrong_choice(*choice)) return wrong;
        return gs::choose(*choice, work, ids, logprobs);
    });
}

gs_status gs_new_vocabulary(gs_strings tokens, gs_strings merges, gs_strings controls, int32_t* kinds, int64_t* starts,
                            gs_vocabulary** out) noexcept {
    return guarded([&]() -> const char* {
        const auto strings = [](const gs_strings& s) noexcept {
            return gs::Strings{static_cast<const uint8_t*>(s.data), s.bytes, s.count};
        };
        const char* fault = nullptr;
        auto made = std::make_unique<gs_vocabulary>(
            gs_vocabulary{{strings(tokens), kinds, strings(merges), strings(controls), fault}});
        if (fault) return fault;
        std::copy(made->words.kinds().begin(), made->words.kinds().end(), kinds);
        for (int32_t id = 0; id < made->words.count(); ++id) starts[id] = made->words.start(id);
        *out = made.release();
        return nullptr;
    });
}

gs_status gs_encode(const gs_vocabulary* vocabulary, const char* text, int64_t bytes, int32_t* ids,
                    int32_t* count) noexcept {
    return guarded([&]() -> const char* {
        if (bytes < 0 || bytes > INT32_MAX) return "a text has less than two gigabytes";
        *count = vocabulary->words.encode({text, static_cast<size_t>(bytes)}, ids);
        return nullptr;
    });
}

int32_t gs_token(const gs_vocabulary* vocabulary, const char* piece, int64_t bytes) noexcept {
    return vocabulary->words.find({piece, static_cast<size_t>(bytes)});
}

void gs_close_vocabulary(gs_vocabulary* vocabulary) noexcept { delete vocabulary; }
void gs_close_cache(gs_cache* cache) noexcept { delete cache; }
int64_t gs_work_bytes(const gs_model* model) noexcept { return model->model.work_bytes(); }
void gs_close(gs_model* model) noexcept { delete model; }

}  // extern "C"
