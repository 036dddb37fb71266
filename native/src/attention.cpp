// Attention over pages: scores of a long context never exist at once.
//
// Keys are read in splits of 512 positions, a page at a time, with a running maximum (Milakov &
// Gimelshein, "Online normalizer calculation for softmax", 2018); splits are merged in order. Where
// splits and pages begin depends on positions alone, so a row gets the same bits in any batch.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "model.h"

namespace gs {
namespace {

constexpr int kSplit = 512;       // positions
constexpr int kTileRows = 32;     // query rows (tokens x heads of a group) that share a pass over the keys
constexpr int kKeys = 64;         // at most this many keys' scores at a time
constexpr int kExpanded = 8;      // keys (values) in float32 at a time, where not read as they lie
constexpr int kGap = 16;          // ... this many more than dim apart: powers of two would share cache sets
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// One softmax in the making, for `rows` query rows.
struct Partial {
    float* peak;   // [rows]
    float* total;  // [rows]
    float* out;    // [rows][dim], not yet divided by total
};

// Query rows that see the same keys: tokens first..last of a span, one K/V head.
struct Tile {
    const Span* span;
    int first, last;
    int kv_head;
};

struct Job {
    const gs_layer* layer;
    const Cache* cache;
    const Context* context;
    const float* q;
    const AttentionKernels* kernels;
    const KvKernels* kv;
    const RowKernels* rows;
    int group() const noexcept { return layer->num_heads / layer->num_kv_heads; }
    int position(int t) const noexcept { return context->rows.position[static_cast<size_t>(t)]; }
    int oldest(int t) const noexcept { return layer->window ? std::max(0, position(t) - layer->window + 1) : 0; }
};

// A thread's memory: the query rows of a tile, their scores, and a few keys or values in float32.
struct Work {
    float *q, *scores, *expanded;
    static int64_t size(int rows, int dim) noexcept {
        return static_cast<int64_t>(rows) * (dim + kKeys) + kExpanded * (dim + kGap);
    }
    static Work at(float* memory, int rows, int dim) noexcept {
        float* scores = memory + static_cast<int64_t>(rows) * dim;
        return {memory, scores, scores + static_cast<int64_t>(rows) * kKeys};
    }
};

// Some cached rows of one K/V head, one token after the other.
struct Run {
    const uint8_t* keys;    // where only values are kept: those
    const uint8_t* values;
    int64_t step;           // bytes
    int from, count;        // positions
};

Run run_of(const Job& job, const Tile& tile, int from, int to) noexcept {
    const gs_layer& l = *job.layer;
    const Cache& cache = *job.cache;
    const int size = cache.page_tokens(), page = tile.span->sequence->page_tables[l.pool][from / size];
    const int64_t step = cache.token_bytes(l.pool);
    const int64_t at = (from % size) * step + kv_bytes(cache.format(), static_cast<int64_t>(tile.kv_head) * l.head_dim);
    const uint8_t* values = cache.values(l.pool, l.slot, page) + at;
    return {cache.only_values(l.pool) ? values : cache.keys(l.pool, l.slot, page) + at, values, step, from, to - from};
}

void score(const Job& job, const Run& run, int rows, const Work& work) noexcept {
    const Cache& cache = *job.cache;
    const int dim = job.layer->head_dim, pool = job.layer->pool, stride = dim + kGap;
    const bool made = cache.only_values(pool);
    if (!made && cache.format() == KvFormat::f16) {
        const auto* keys = reinterpret_cast<const uint16_t*>(run.keys);
        return job.kernels->scores_half(work.q, rows, dim, keys, run.step / 2, run.count, work.scores, kKeys);
    }
    const Cache::Source none, &source = made ? cache.source(pool, job.layer->slot) : none;
    const float* angles = made ? cache.angles(source, run.from / Cache::kChunk) : nullptr;
    for (int j = 0; j < run.count; j += kExpanded) {
        const int keys = std::min(kExpanded, run.count - j);
        job.kv->expand(cache.format(), run.keys + j * run.step, run.step, dim, keys, source.weight, work.expanded, stride);
        if (made) {
            const float* cosine = angles + static_cast<int64_t>((run.from + j) % Cache::kChunk) * source.pairs;
            const float* sine = cosine + static_cast<int64_t>(Cache::kChunk) * source.pairs;
            job.kv->turn(work.expanded, stride, dim, keys, cosine, sine, source.pairs);
        }
        job.kernels->scores(work.q, rows, dim, work.expanded, stride, keys, work.scores + j, kKeys);
    }
}

void blend(const Job& job, const Run& run, int rows, const Work& work, float* out) noexcept {
    const int dim = job.layer->head_dim, stride = dim + kGap;
    const KvFormat format = job.cache->format();
    if (format == KvFormat::f16) {
        const auto* values = reinterpret_cast<const uint16_t*>(run.values);
        return job.kernels->blend_half(work.scores, kKeys, rows, dim, values, run.step / 2, run.count, out);
    }
    for (int j = 0; j < run.count; j += kExpanded) {
        const int keys = std::min(kExpanded, run.count - j);
        job.kv->expand(format, run.values + j * run.step, run.step, dim, keys, nullptr, work.expanded, stride);
        job.kernels->blend(work.scores + j, kKeys, rows, dim, work.expanded, stride, keys, out);
    }
}

// The keys [from, to) of one page into a partial.
void page_step(const Job& job, const Tile& tile, int from, int to, const Work& work, Partial& p) noexcept {
    const int dim = job.layer->head_dim, group = job.group(), keys = to - from;
    const int rows = (tile.last - tile.first) * group;
    const Run run = run_of(job, tile, from, to);
    score(job, run, rows, work);
    for (int m = 0; m < rows; ++m) {
        const int t = tile.first + m / group, newest = job.position(t), oldest = job.oldest(t);
        float* s = work.scores + m * kKeys;
        float peak = p.peak[m];
        for (int j = 0; j < keys; ++j) {
            if (from + j < oldest || from + j > newest) s[j] = kNothing;
            peak = std::max(peak, s[j]);
        }
        if (peak == kNothing) {
            std::memset(s, 0, sizeof(float) * static_cast<size_t>(keys));
            continue;
        }
        const float total = job.rows->exp_sum(s, keys, peak);
        if (peak != p.peak[m]) {
            const float shrink = std::exp(p.peak[m] - peak);  // 0 at the first keys
            p.total[m] *= shrink;
            for (int h = 0; h < dim; ++h) p.out[static_cast<int64_t>(m) * dim + h] *= shrink;
            p.peak[m] = peak;
        }
        p.total[m] += total;
    }
    blend(job, run, rows, work, p.out);
}

// All keys of one split that the tile sees.
void split_step(const Job& job, const Tile& tile, int split, const Work& work, Partial& p) noexcept {
    const int dim = job.layer->head_dim, group = job.group(), rows = (tile.last - tile.first) * group;
    const int size = job.cache->page_tokens();
    const int64_t heads = static_cast<int64_t>(job.layer->num_heads) * dim, part = static_cast<int64_t>(group) * dim;
    for (int t = tile.first; t < tile.last; ++t)
        std::memcpy(work.q + (t - tile.first) * part, job.q + t * heads + tile.kv_head * part, sizeof(float) * part);
    std::fill(p.peak, p.peak + rows, kNothing);
    std::fill(p.total, p.total + rows, 0.0f);
    std::fill(p.out, p.out + static_cast<int64_t>(rows) * dim, 0.0f);
    int from = std::max(split * kSplit, job.oldest(tile.first));
    from = std::max(split * kSplit, from / size * size);  // whole pages: what a row adds up stays in its lanes
    const int end = std::min((split + 1) * kSplit, job.position(tile.last - 1) + 1);
    while (from < end) {
        const int page_end = (from / size + 1) * size, block_end = (from / kKeys + 1) * kKeys;
        const int to = std::min({end, page_end, block_end});
        const bool held = tile.span->sequence->page_tables[job.layer->pool][from / size] >= 0;
        if (held) page_step(job, tile, from, to, work, p);  // released: only a drafter looks that far back
        from = to;
    }
}

// `into` and a later split's `from`, as if they had been one.
void merge(Partial& into, const Partial& from, int rows, int dim) noexcept {
    for (int m = 0; m < rows; ++m) {
        if (from.peak[m] == kNothing) continue;
        const float peak = std::max(into.peak[m], from.peak[m]);
        const float a = std::exp(into.peak[m] - peak), b = std::exp(from.peak[m] - peak);
        into.total[m] = into.total[m] * a + from.total[m] * b;
        float* to = into.out + static_cast<int64_t>(m) * dim;
        const float* add = from.out + static_cast<int64_t>(m) * dim;
        for (int h = 0; h < dim; ++h) to[h] = to[h] * a + add[h] * b;
        into.peak[m] = peak;
    }
}

std::vector<Tile> tiles_of(const Job& job) {
    const int tokens = std::max(1, kTileRows / job.group());
    std::vector<Tile> tiles;
    for (const Span& span : job.context->rows.spans)
        for (int t = span.start; t < span.stop; t += tokens)
            for (int head = 0; head < job.layer->num_kv_heads; ++head)
                tiles.push_back({&span, t, std::min(span.stop, t + tokens), head});
    return tiles;
}

// A softmax's worth of memory behind `at`.
Partial partial_at(float* at, int rows) noexcept { return {at, at + rows, at + 2 * rows}; }

void finish(const Job& job, const Tile& tile, const Partial& p, float* out) noexcept {
    const int dim = job.layer->head_dim, group = job.group(), rows = (tile.last - tile.first) * group;
    for (int m = 0; m < rows; ++m) {
        const int64_t head = static_cast<int64_t>(tile.first + m / group) * job.layer->num_heads +
                             tile.kv_head * group + m % group;
        for (int h = 0; h < dim; ++h) out[head * dim + h] = p.out[static_cast<int64_t>(m) * dim + h] / p.total[m];
        if (job.cache->mixed(job.layer->pool)) hadamard(out + head * dim, dim);
    }
}

}  // namespace

void Model::attend(const gs_layer& layer, const float* q, const Context& context, const Cache& cache, float* out) {
    const Job job{&layer, &cache, &context, q, &attention_, &kv_, &rows_};
    const std::vector<Tile> tiles = tiles_of(job);
    const int dim = layer.head_dim, most = std::max(kTileRows, job.group());
    const int64_t partial = static_cast<int64_t>(most) * (dim + 2), work = Work::size(most, dim);
    std::vector<int> first(tiles.size()), count(tiles.size()), start(tiles.size() + 1, 0);
    for (size_t i = 0; i < tiles.size(); ++i) {
        first[i] = job.oldest(tiles[i].first) / kSplit;
        count[i] = job.position(tiles[i].last - 1) / kSplit + 1 - first[i];
        start[i + 1] = start[i] + count[i];
    }
    // Enough tiles for all threads: each walks its splits. Few (decoding): the splits are shared out too.
    const bool spread = static_cast<int>(tiles.size()) < 4 * threads_.count();
    const int64_t per_thread = work + 2 * partial;
    float* memory = partials_.get(threads_.count() * per_thread + (spread ? start.back() * partial : 0));
    float* shared = memory + threads_.count() * per_thread;
    const auto rows_of = [&](size_t i) { return (tiles[i].last - tiles[i].first) * job.group(); };
    if (spread) {
        threads_.run(start.back(), [&](int item, int thread) noexcept {
            const auto i = static_cast<size_t>(std::upper_bound(start.begin(), start.end(), item) - start.begin() - 1);
            Partial p = partial_at(shared + item * partial, rows_of(i));
            split_step(job, tiles[i], first[i] + item - start[i], Work::at(memory + thread * per_thread, most, dim), p);
        });
    }
    threads_.run(static_cast<int>(tiles.size()), [&](int chunk, int thread) noexcept {
        const auto i = static_cast<size_t>(chunk);
        const int rows = rows_of(i);
        float* own = memory + thread * per_thread;
        Partial whole = spread ? partial_at(shared + start[i] * partial, rows) : partial_at(own + work, rows);
        if (!spread) split_step(job, tiles[i], first[i], Work::at(own, most, dim), whole);
        for (int s = 1; s < count[i]; ++s) {
            Partial next = spread ? partial_at(shared + (start[i] + s) * partial, rows)
                                  : partial_at(own + work + partial, rows);
            if (!spread) split_step(job, tiles[i], first[i] + s, Work::at(own, most, dim), next);
            merge(whole, next, rows, dim);
        }
        finish(job, tiles[i], whole, out);
    });
}

void Model::queries(const gs_layer& layer, Input& h, const Context& context, bool mixed, float* q) {
    project(layer.q_proj, h, context.rows, q);
    const Turn& turn = turn_of(context, layer);
    each_row(h.tokens(), [&](int t) noexcept {
        const int64_t at = static_cast<int64_t>(t) * turn.pairs;
        for (int n = 0; n < layer.num_heads; ++n) {
            float* head = q + (static_cast<int64_t>(t) * layer.num_heads + n) * layer.head_dim;
            rows_.norm(head, layer.q_norm, spec_.rms_norm_eps, layer.head_dim, head);
            rotate(head, layer.head_dim, turn.cosine.data() + at, turn.sine.data() + at, turn.pairs);
            if (mixed) hadamard(head, layer.head_dim);
        }
    });
}

void Model::write_kv(const gs_layer& layer, Input& h, const Context& context, Cache& cache) {
    const int dim = layer.head_dim, wide = layer.num_kv_heads * dim, rows = h.tokens(), size = cache.page_tokens();
    float *k = k_.get(static_cast<int64_t>(rows) * wide), *v = v_.get(static_cast<int64_t>(rows) * wide);
    const bool only_values = cache.only_values(layer.pool), mixed = cache.mixed(layer.pool);
    project(layer.k_proj, h, context.rows, only_values ? v : k);
    if (layer.v_from_k) {
        if (!only_values) std::memcpy(v, k, sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(wide));
    } else {
        project(layer.v_proj, h, context.rows, v);
    }
    const Turn& turn = turn_of(context, layer);
    std::vector<const gs_sequence*> owner(static_cast<size_t>(rows));
    for (const Span& span : context.rows.spans)
        std::fill(owner.begin() + span.start, owner.begin() + span.stop, span.sequence);
    each_row(rows, [&](int t) noexcept {
        const int position = context.rows.position[static_cast<size_t>(t)];
        const int page = owner[static_cast<size_t>(t)]->page_tables[layer.pool][position / size];
        float *key = k + static_cast<int64_t>(t) * wide, *value = v + static_cast<int64_t>(t) * wide;
        const int64_t at = static_cast<int64_t>(t) * turn.pairs, slot = (position % size) * cache.token_bytes(layer.pool);
        for (int n = 0; n < layer.num_kv_heads; ++n) {
            float *own_key = key + n * dim, *own_value = value + n * dim;
            rows_.norm(own_value, nullptr, spec_.rms_norm_eps, dim, own_value);
            if (mixed) hadamard(own_value, dim);
            if (only_values) continue;
            rows_.norm(own_key, layer.k_norm, spec_.rms_norm_eps, dim, own_key);
            rotate(own_key, dim, turn.cosine.data() + at, turn.sine.data() + at, turn.pairs);
            if (mixed) hadamard(own_key, dim);
        }
        kv_.store(cache.format(), value, wide, cache.values(layer.pool, layer.slot, page) + slot);
        if (!only_values) kv_.store(cache.format(), key, wide, cache.keys(layer.pool, layer.slot, page) + slot);
    });
}

}  // namespace gs
