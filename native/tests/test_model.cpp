// The whole forward through the C ABI, without Python: a small model of every kind of layer answers with the
// same bits however its prompt is cut, whoever shares the batch and however many threads run; what
// contradicts itself is refused. Built with sanitizers too (native/build.py test --sanitize ...).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "../include/gemstead.h"

namespace {

constexpr int kWidth = 64, kVocab = 96, kHead = 32, kInner = 96, kPle = 32, kPage = 4, kPages = 24;
constexpr int kQ8 = 8, kF32 = 0;  // ggml types

// Owns what the structs point at.
struct Memory {
    std::mt19937 random{7};
    std::deque<std::vector<float>> floats;
    std::deque<std::vector<uint8_t>> bytes;
    std::deque<std::vector<int32_t>> ints;

    const float* vector(int64_t count, float mean, float spread) {
        std::normal_distribution<float> draw(mean, spread);
        floats.emplace_back(static_cast<size_t>(count));
        for (float& x : floats.back()) x = draw(random);
        return floats.back().data();
    }

    // Random q8_0 rows as a file has them: a half scale (2^-9) and 32 signed bytes.
    const uint8_t* q8_rows(int64_t rows, int64_t columns) {
        bytes.emplace_back(static_cast<size_t>(rows * columns / 32 * 34));
        for (size_t i = 0; i < bytes.back().size(); ++i)
            bytes.back()[i] = i % 34 == 0 ? 0x00 : i % 34 == 1 ? 0x18 : static_cast<uint8_t>(random());
        return bytes.back().data();
    }

    gs_matrix matrix(int format, int64_t rows, int64_t columns, int copies = 1, bool table = false) {
        if (format == kF32) {
            const float* data = vector(copies * rows * columns, 0, 1 / std::sqrt(static_cast<float>(columns)));
            return {data, kF32, 0, copies, 0, rows, columns, 0};
        }
        const uint8_t* source = q8_rows(copies * rows, columns);
        if (table) return {source, format, 0, copies, 0, rows, columns, 0};
        const int64_t size = gs_packed_bytes(format, rows, columns);
        bytes.emplace_back(static_cast<size_t>(size * copies + 64));
        uint8_t* target = bytes.back().data();
        target += (64 - reinterpret_cast<uintptr_t>(target) % 64) % 64;
        for (int c = 0; c < copies; ++c)
            if (gs_pack(format, source + c * rows * columns / 32 * 34, rows, columns, target + c * size)) std::abort();
        return {target, format, 1, copies, 0, rows, columns, 0};
    }
};

struct Kind {
    const char* name;
    int format;
    bool per_layer, shares, experts, v_from_k;
    int32_t kv = GS_KV_F16;
};

// Four layers: sliding, full, sliding, full; with `shares` the last two read the K/V of the first two.
struct Built {
    Memory memory;
    gs_spec spec{};
    std::vector<gs_layer> layers;
    int32_t kv;

    explicit Built(const Kind& kind) {
        spec.hidden_size = kWidth, spec.vocab_size = kVocab, spec.num_layers = 4, spec.num_pools = 2;
        spec.last_kv_layer = kind.shares ? 1 : 3, spec.per_layer_width = kind.per_layer ? kPle : 0;
        spec.rms_norm_eps = 1e-6f, spec.final_logit_softcapping = 30;
        for (int p = 0; p < 2; ++p) spec.pools[p] = {p ? 1 : 2, p ? 2 * kHead : kHead, kind.shares ? 1 : 2, p && kind.v_from_k};
        kv = kind.kv;
        spec.embed_tokens = memory.matrix(kind.format, kVocab, kWidth, 1, true);
        spec.head = memory.matrix(kind.format, kVocab, kWidth);
        spec.norm = memory.vector(kWidth, 1, 0.1f);
        if (kind.per_layer) {
            spec.embed_tokens_per_layer = memory.matrix(kind.format, kVocab, 4 * kPle, 1, true);
            spec.per_layer_model_projection = memory.matrix(kind.format, 4 * kPle, kWidth);
            spec.per_layer_projection_norm = memory.vector(kPle, 1, 0.1f);
        }
        const float* rope[2] = {memory.vector(kHead / 2, 0.5f, 0.2f), memory.vector(kHead / 4, 0.1f, 0.02f)};
        for (int i = 0; i < 4; ++i) layers.push_back(layer(kind, i, rope[i % 2]));
    }

    gs_layer layer(const Kind& kind, int i, const float* rope) {
        gs_layer l{};
        const int full = i % 2, dim = full ? 2 * kHead : kHead, kv = full ? 1 : 2;
        l.pool = full, l.slot = kind.shares ? 0 : i / 2, l.owns_kv = !kind.shares || i < 2, l.window = full ? 0 : 6;
        l.num_heads = 4, l.num_kv_heads = kv, l.head_dim = dim, l.rope_pairs = full ? kHead / 4 : kHead / 2;
        l.v_from_k = full && kind.v_from_k, l.intermediate_size = kInner, l.layer_scalar = 0.9f, l.rope = rope;
        const int f = kind.format;
        l.q_proj = memory.matrix(f, 4 * dim, kWidth), l.o_proj = memory.matrix(f, kWidth, 4 * dim);
        if (l.owns_kv) l.k_proj = memory.matrix(f, kv * dim, kWidth);
        if (l.owns_kv && !l.v_from_k) l.v_proj = memory.matrix(f, kv * dim, kWidth);
        l.gate_proj = memory.matrix(f, kInner, kWidth), l.up_proj = memory.matrix(f, kInner, kWidth);
        l.down_proj = memory.matrix(f, kWidth, kInner);
        l.q_norm = memory.vector(dim, 0.5f, 0.1f), l.k_norm = memory.vector(dim, 0.5f, 0.1f);
        for (const float** norm : {&l.input_norm, &l.post_attention_norm, &l.pre_feedforward_norm, &l.post_feedforward_norm})
            *norm = memory.vector(kWidth, 0.6f, 0.1f);
        if (kind.per_layer) {
            l.per_layer_input_gate = memory.matrix(f, kPle, kWidth), l.per_layer_projection = memory.matrix(f, kWidth, kPle);
            l.post_per_layer_input_norm = memory.vector(kWidth, 0.6f, 0.1f);
        }
        if (kind.experts) {
            l.num_experts = 6, l.top_k_experts = 2, l.expert_size = 32;
            l.router = memory.matrix(kF32, 6, kWidth);
            l.expert_gate_up = memory.matrix(f, 64, kWidth, 6), l.expert_down = memory.matrix(f, kWidth, 32, 6);
            l.router_scale = memory.vector(kWidth, 1, 0.1f), l.per_expert_scale = memory.vector(6, 1, 0.1f);
            for (const float** norm : {&l.pre_feedforward_norm_2, &l.post_feedforward_norm_1, &l.post_feedforward_norm_2})
                *norm = memory.vector(kWidth, 0.6f, 0.1f);
        }
        return l;
    }
};

// An opened model with a cache; sequences are given pages of their own, scattered.
struct Running {
    gs_model* model = nullptr;
    gs_cache* cache = nullptr;
    std::vector<std::vector<int32_t>> tables;
    int32_t adapters[2] = {0, 0};  // of the two sequences

    Running(const Built& built, int threads) {
        const int32_t pages[GS_MAX_POOLS] = {kPages, kPages, 0, 0};
        if (gs_open(&built.spec, built.layers.data(), threads, &model) || gs_new_cache(model, pages, kPage, built.kv, &cache)) std::abort();
        for (int s = 0; s < 2; ++s) {
            tables.emplace_back();
            for (int i = 0; i < kPages / 2; ++i) tables.back().push_back((2 * i * 5 + s) % kPages);
        }
    }
    ~Running() { gs_close_cache(cache), gs_close(model); }

    gs_sequence sequence(int which, int start, int count, int position) const {
        gs_sequence s{start, count, position, adapters[which], {}};
        s.page_tables[0] = s.page_tables[1] = tables[static_cast<size_t>(which)].data();
        return s;
    }

    // The logits of the last row of each part (which sequence, its ids so far, how many of them are new).
    struct Part {
        int which;
        std::vector<int32_t> ids;
        int fresh;
    };
    std::vector<float> forward(const std::vector<Part>& parts, std::vector<float>* hidden = nullptr) {
        std::vector<int32_t> ids, last;
        std::vector<gs_sequence> sequences;
        for (const Part& part : parts) {
            const int from = static_cast<int>(part.ids.size()) - part.fresh;
            sequences.push_back(sequence(part.which, static_cast<int>(ids.size()), part.fresh, from));
            ids.insert(ids.end(), part.ids.begin() + from, part.ids.end());
            last.push_back(static_cast<int32_t>(ids.size()) - 1);
        }
        std::vector<float> logits(parts.size() * kVocab);
        if (hidden) hidden->resize(parts.size() * kWidth);
        const gs_batch batch{static_cast<int32_t>(ids.size()), static_cast<int32_t>(parts.size()),
                             static_cast<int32_t>(parts.size()), 0, ids.data(), sequences.data(), last.data()};
        if (gs_forward(model, cache, &batch, logits.data(), hidden ? hidden->data() : nullptr)) std::abort();
        return logits;
    }
};

std::vector<int32_t> some_ids(int count, int seed) {
    std::vector<int32_t> ids;
    for (int i = 0; i < count; ++i) ids.push_back((seed * 31 + i * i * 7 + i) % kVocab);
    return ids;
}

std::vector<int32_t> head_of(const std::vector<int32_t>& ids, int count) { return {ids.begin(), ids.begin() + count}; }

bool same(const float* a, const float* b, size_t count) { return !std::memcmp(a, b, sizeof(float) * count); }

int check(bool good, const std::string& what) {
    if (!good) std::printf("model          WRONG: %s\n", what.c_str());
    return good ? 0 : 1;
}

int cut_and_shared(const Kind& kind, const Built& built) {
    const std::vector<int32_t> ids = some_ids(29, 1), other = some_ids(17, 2);
    std::vector<float> wanted;
    int wrong = 0;
    for (const int threads : {1, 3}) {
        Running whole(built, threads), cut(built, threads), both(built, threads);
        const std::vector<float> one = whole.forward({{0, ids, 29}});
        if (wanted.empty()) wanted = one;
        for (const float x : one) wrong += check(std::isfinite(x), std::string(kind.name) + ": a logit is no number");
        wrong += check(same(one.data(), wanted.data(), kVocab), std::string(kind.name) + ": threads change a bit");
        std::vector<float> last;
        for (int done = 0, step = 1; done < 29; done += step, step = step % 6 + 1)
            last = cut.forward({{0, head_of(ids, std::min(29, done + step)), std::min(step, 29 - done)}});
        wrong += check(same(last.data(), wanted.data(), kVocab), std::string(kind.name) + ": a cut prompt changes a bit");
        both.forward({{1, head_of(other, 9), 9}, {0, head_of(ids, 20), 20}});
        last = both.forward({{1, other, 8}, {0, ids, 9}});
        wrong += check(same(last.data() + kVocab, wanted.data(), kVocab), std::string(kind.name) + ": a batch mate changes a bit");
    }
    return wrong;
}

gs_drafter drafter_of(Memory& memory, const Built& target, std::vector<gs_layer>& layers, bool clustered) {
    gs_drafter d{};
    d.spec = target.spec, d.spec.per_layer_width = 0, d.spec.num_layers = 2;
    d.spec.head = memory.matrix(kQ8, kVocab, kWidth), d.spec.embed_tokens = memory.matrix(kQ8, kVocab, kWidth, 1, true);
    d.pre_projection = memory.matrix(kQ8, kWidth, 2 * kWidth), d.post_projection = memory.matrix(kQ8, kWidth, kWidth);
    if (clustered) {
        d.num_centroids = 8, d.centroid_top_k = 3, d.centroids = memory.matrix(kF32, 8, kWidth);
        memory.ints.emplace_back();
        for (int i = 0; i < kVocab; ++i) memory.ints.back().push_back((i * 5) % kVocab);
        d.token_ordering = memory.ints.back().data();
    }
    layers.assign(target.layers.begin(), target.layers.begin() + 2);
    for (gs_layer& layer : layers) layer.owns_kv = 0, layer.window += layer.window ? 1 : 0;
    return d;
}

int drafts(const Built& built, bool clustered) {
    std::vector<float> wanted;
    int wrong = 0;
    for (const int threads : {1, 3}) {
        Memory memory;
        std::vector<gs_layer> layers;
        const gs_drafter drafter = drafter_of(memory, built, layers, clustered);
        Running run(built, threads);
        if (gs_add_drafter(run.model, &drafter, layers.data())) return check(false, gs_last_error());
        std::vector<float> state, logits(kVocab), next(kWidth);
        run.forward({{0, some_ids(21, 3), 21}}, &state);
        const int32_t id = 5, row = 0;
        const gs_sequence sequence = run.sequence(0, 0, 1, 20);
        const gs_batch batch{1, 1, 1, 0, &id, &sequence, &row};
        for (int step = 0; step < 3; ++step) {
            if (gs_draft(run.model, run.cache, &batch, state.data(), logits.data(), next.data())) return check(false, gs_last_error());
            state = next;
        }
        logits.insert(logits.end(), next.begin(), next.end());
        if (wanted.empty()) wanted = logits;
        wrong += check(same(wanted.data(), logits.data(), logits.size()), "threads change a bit of a draft");
    }
    return wrong;
}

// A term for every linear the model has, of another rank for each.
std::vector<gs_term> terms_of(Memory& memory, const Built& built, int format) {
    std::vector<gs_term> terms;
    const auto add = [&](int layer, int linear, const gs_matrix& w) {
        if (!w.data) return;
        const int rank = 1 + static_cast<int>(terms.size() * 7 % 23);
        terms.push_back({layer, linear, 0.5f, 0, memory.matrix(kF32, rank, w.columns), memory.matrix(kF32, w.rows, rank)});
        for (gs_matrix* half : {&terms.back().a, &terms.back().b}) {
            if (format == kF32) continue;
            memory.bytes.emplace_back(static_cast<size_t>(half->rows * half->columns * 2));
            for (int64_t i = 0; i < half->rows * half->columns; ++i)  // bfloat16: the upper half of a float
                std::memcpy(&memory.bytes.back()[static_cast<size_t>(2 * i)], static_cast<const char*>(half->data) + 4 * i + 2, 2);
            half->data = memory.bytes.back().data(), half->format = format;
        }
    };
    for (int i = 0; i < built.spec.num_layers; ++i) {
        const gs_layer& l = built.layers[static_cast<size_t>(i)];
        const gs_matrix* all[] = {&l.q_proj,    &l.k_proj,    &l.v_proj, &l.o_proj, &l.gate_proj, &l.up_proj,
                                  &l.down_proj, &l.router,    &l.per_layer_input_gate, &l.per_layer_projection};
        for (int linear = 0; linear < 10; ++linear) add(i, linear, *all[linear]);
    }
    add(0, GS_PER_LAYER_MODEL_PROJECTION, built.spec.per_layer_model_projection);
    return terms;
}

int adapters(const Kind& kind, const Built& built) {
    const std::vector<int32_t> ids = some_ids(29, 1), other = some_ids(17, 2);
    std::vector<float> plain, alone[2];
    int wrong = 0;
    for (const int threads : {1, 3}) {
        Memory memory;
        const std::vector<gs_term> terms[2] = {terms_of(memory, built, kF32), terms_of(memory, built, 30)};
        const auto opened = [&](Running& run, int32_t first, int32_t second) {
            for (const auto& one : terms)
                if (gs_add_adapter(run.model, one.data(), static_cast<int32_t>(one.size()))) std::abort();
            run.adapters[0] = first, run.adapters[1] = second;
        };
        Running bare(built, threads), none(built, threads), both(built, threads);
        plain = bare.forward({{0, ids, 29}});
        opened(none, 0, 2), opened(both, 1, 2);
        for (int n = 0; n < 2; ++n) {
            Running one(built, threads);
            opened(one, n + 1, 0);
            const std::vector<float> last = one.forward({{0, ids, 29}});
            if (alone[n].empty()) alone[n] = last;
            wrong += check(same(last.data(), alone[n].data(), kVocab), std::string(kind.name) + ": threads change a bit of an adapter");
            wrong += check(!same(last.data(), plain.data(), kVocab), std::string(kind.name) + ": an adapter changes nothing");
        }
        none.forward({{1, head_of(other, 9), 9}, {0, head_of(ids, 20), 20}});
        std::vector<float> last = none.forward({{1, other, 8}, {0, ids, 9}});
        wrong += check(same(last.data() + kVocab, plain.data(), kVocab), std::string(kind.name) + ": a neighbour's adapter changes a bit");
        both.forward({{1, head_of(ids, 9), 9}, {0, head_of(ids, 20), 20}});
        both.forward({{1, head_of(ids, 28), 19}});
        last = both.forward({{0, ids, 9}, {1, ids, 1}});
        for (int n = 0; n < 2; ++n)
            wrong += check(same(last.data() + n * kVocab, alone[n].data(), kVocab), std::string(kind.name) + ": adapters mix");
    }
    return wrong;
}

int adapter_refusals(const Built& built) {
    int wrong = 0;
    Memory memory;
    Running run(built, 1);
    const std::vector<gs_term> good = terms_of(memory, built, kF32);
    const auto refused = [&](auto&& change, const char* why) {
        std::vector<gs_term> terms = good;
        change(terms);
        const bool told = gs_add_adapter(run.model, terms.data(), static_cast<int32_t>(terms.size())) == GS_BAD_ARGUMENT && std::strstr(gs_last_error(), why);
        wrong += check(told, std::string("not refused: ") + why);
    };
    using Terms = std::vector<gs_term>;
    refused([](Terms& t) { t.clear(); }, "no terms");
    refused([](Terms& t) { t[0].layer = 4; }, "linear that is not there");
    refused([](Terms& t) { t[0].layer = -1; }, "linear that is not there");
    refused([](Terms& t) { t[0].linear = 11; }, "linear that is not there");
    refused([](Terms& t) { t[0].linear = -1; }, "linear that is not there");
    refused([](Terms& t) { t[0].scale = INFINITY; }, "scale is no number");
    refused([](Terms& t) { t[0].a.rows = 0; }, "rank is not between");
    refused([](Terms& t) { t[0].a.rows = int64_t{1} << 40; }, "rank is not between");
    refused([](Terms& t) { t[0].a.columns += 1; }, "another shape");
    refused([](Terms& t) { t[0].b.rows -= 1; }, "another shape");
    refused([](Terms& t) { t[0].b.columns += 1; }, "another shape");
    refused([](Terms& t) { t[0].a.format = kQ8; }, "plain numbers");
    refused([](Terms& t) { t[0].b.data = nullptr; }, "missing");
    refused([](Terms& t) { t.push_back(t[0]); }, "twice");
    run.adapters[0] = 1;
    const int32_t id = 1, row = 0;
    std::vector<float> logits(kVocab);
    for (const int32_t number : {1, -1}) {
        run.adapters[0] = number;
        const gs_sequence sequence = run.sequence(0, 0, 1, 0);
        const gs_batch batch{1, 1, 1, 0, &id, &sequence, &row};
        const bool told = gs_forward(run.model, run.cache, &batch, logits.data(), nullptr) == GS_BAD_ARGUMENT && std::strstr(gs_last_error(), "adapter that is not there");
        wrong += check(told, "an adapter that is not there is taken");
    }
    return wrong;
}

int refusals(const Built& built) {
    int wrong = 0;
    Running run(built, 2);
    std::vector<float> logits(4 * kVocab);
    const auto refused = [&](std::vector<int32_t> ids, gs_sequence sequence, std::vector<int32_t> rows, const char* why) {
        const gs_batch batch{static_cast<int32_t>(ids.size()), 1, static_cast<int32_t>(rows.size()), 0, ids.data(), &sequence, rows.data()};
        const bool told = gs_forward(run.model, run.cache, &batch, logits.data(), nullptr) == GS_BAD_ARGUMENT && std::strstr(gs_last_error(), why);
        wrong += check(told, std::string("not refused: ") + why);
    };
    refused({kVocab}, run.sequence(0, 0, 1, 0), {0}, "outside the vocabulary");
    refused({-1}, run.sequence(0, 0, 1, 0), {0}, "outside the vocabulary");
    refused({1, 2}, run.sequence(0, 0, 1, 0), {0}, "belong to its sequences");
    refused({1, 2}, run.sequence(0, 1, 1, 0), {0}, "follow each other");
    refused({1, 2}, run.sequence(0, 0, 2, 0), {1, 0}, "ascend");
    refused({1, 2}, run.sequence(0, 0, 2, 0), {2}, "ascend");
    refused({1}, run.sequence(0, 0, 1, -1), {0}, "begins before 0");
    std::vector<int32_t> far(kPages, kPages);
    gs_sequence lost = run.sequence(0, 0, 1, 0);
    lost.page_tables[1] = far.data();
    refused({1}, lost, {0}, "page that is not there");
    std::vector<int32_t> fine(kPages, 0), early = fine;
    early[0] = kPages;  // rows look back at pages before their own
    lost.page_tables[0] = fine.data(), lost.page_tables[1] = early.data(), lost.position = 5 * kPage;
    refused({1}, lost, {0}, "page that is not there");
    std::vector<gs_layer> layers = built.layers;
    layers[1].num_heads = 3;
    gs_model* none = nullptr;
    layers[1].num_kv_heads = 2;
    wrong += check(gs_open(&built.spec, layers.data(), 1, &none) == GS_BAD_ARGUMENT && !none, "heads that do not fit are taken");
    wrong += check(gs_open(&built.spec, built.layers.data(), 0, &none) == GS_BAD_ARGUMENT, "no thread is taken for some");
    gs_spec narrow = built.spec;
    narrow.embed_tokens.columns -= 32;
    wrong += check(gs_open(&narrow, built.layers.data(), 1, &none) == GS_BAD_ARGUMENT, "a narrow embedding is taken");
    for (const int32_t picks : {0, 7}) {
        layers = built.layers;
        for (gs_layer& l : layers) l.top_k_experts = picks;
        const gs_status status = gs_open(&built.spec, layers.data(), 1, &none);
        wrong += check(!built.layers[0].num_experts || status == GS_BAD_ARGUMENT, "more experts than there are can be picked");
        if (!status) gs_close(none);
    }
    return wrong;
}

}  // namespace

int main() {
    int wrong = 0;
    for (const int format : {kF32, kQ8}) {
        const Kind kinds[] = {{"plain", format, false, false, false, false},
                              {"shared", format, true, true, false, false},
                              {"experts", format, false, false, true, true},
                              {"shared, q8_0 K/V", format, true, true, false, false, GS_KV_Q8_0},
                              {"values alone", format, false, false, false, true},
                              {"values alone, q8_0", format, false, false, false, true, GS_KV_Q8_0}};
        for (const Kind& kind : kinds) {
            const Built built(kind);
            wrong += cut_and_shared(kind, built);
            if (!kind.experts) wrong += drafts(built, kind.shares);
            wrong += refusals(built) + adapters(kind, built) + adapter_refusals(built);
        }
    }
    if (!wrong) std::printf("model          same bits for any cut, batch and threads; refusals told\n");
    return wrong != 0;
}
