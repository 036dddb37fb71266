// See kv.h.
#include "kv.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

namespace gs {

Cache::Cache(const gs_spec& spec, const gs_layer* layers, const int32_t* pages, int32_t page_tokens, KvFormat format)
    : page_tokens_(page_tokens), format_(format) {
    for (int p = 0; p < spec.num_pools; ++p) {
        const gs_pool& pool = spec.pools[p];
        const int64_t token = kv_bytes(format, int64_t{pool.num_kv_heads} * pool.head_dim);
        pools_.push_back({nullptr, pages[p], pool.num_layers, pool.v_from_k ? 1 : 2, token, token * page_tokens});
        bytes_ += page_bytes(p) * pages[p];
    }
    find_sources(spec, layers);
    if (!bytes_) return;
    memory_ = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) {
        memory_ = nullptr;
        throw std::bad_alloc();
    }
    auto* next = static_cast<uint8_t*>(memory_);
    for (int p = 0; p < spec.num_pools; ++p) {
        Memory& m = pools_[static_cast<size_t>(p)];
        m.base = next;
        next += page_bytes(p) * m.pages;
    }
}

void Cache::find_sources(const gs_spec& spec, const gs_layer* layers) {
    for (int i = 0; i < spec.num_layers; ++i) {
        const gs_layer& l = layers[i];
        if (!l.owns_kv || !only_values(l.pool)) continue;
        size_t a = 0;
        while (a < angles_.size() && angles_[a].rope != l.rope) ++a;
        if (a == angles_.size()) angles_.push_back({l.rope, l.rope_pairs, {}});
        auto& found = sources_[static_cast<size_t>(l.pool)];
        found.resize(static_cast<size_t>(spec.pools[l.pool].num_layers));
        found[static_cast<size_t>(l.slot)] = {l.k_norm, l.rope, l.rope_pairs, a};
    }
}

void Cache::reach(int end) {
    const auto chunks = static_cast<size_t>((end + kChunk - 1) / kChunk);
    for (Angles& a : angles_) {
        const int64_t count = int64_t{kChunk} * a.pairs;
        while (a.chunks.size() < chunks) {
            const int64_t first = static_cast<int64_t>(a.chunks.size()) * kChunk;
            auto chunk = std::make_unique<float[]>(static_cast<size_t>(2 * count));
            for (int64_t i = 0; i < count; ++i) {
                const float angle = static_cast<float>(first + i / a.pairs) * a.rope[i % a.pairs];
                chunk[static_cast<size_t>(i)] = std::cos(angle);
                chunk[static_cast<size_t>(count + i)] = std::sin(angle);
            }
            a.chunks.push_back(std::move(chunk));
        }
    }
    reached_ = std::max(reached_, static_cast<int>(chunks) * kChunk);
}

int64_t Cache::page_bytes(int pool) const noexcept {
    const Memory& m = pools_[static_cast<size_t>(pool)];
    return m.half_bytes * m.halves * m.layers;
}

void Cache::read_page(int pool, int page, void* out) const noexcept {
    const Memory& m = pools_[static_cast<size_t>(pool)];
    const auto bytes = static_cast<size_t>(m.half_bytes);
    for (int half = 0; half < m.halves * m.layers; ++half)
        std::memcpy(static_cast<char*>(out) + static_cast<size_t>(half) * bytes, at(pool, half, page), bytes);
}

void Cache::write_page(int pool, int page, const void* data) noexcept {
    const Memory& m = pools_[static_cast<size_t>(pool)];
    const auto bytes = static_cast<size_t>(m.half_bytes);
    for (int half = 0; half < m.halves * m.layers; ++half)
        std::memcpy(at(pool, half, page), static_cast<const char*>(data) + static_cast<size_t>(half) * bytes, bytes);
}

Cache::~Cache() {
    if (memory_) munmap(memory_, static_cast<size_t>(bytes_));
}

void hadamard(float* x, int n) noexcept {
    const int size = n & -n;
    for (int half = 1; half < size; half *= 2) {
        for (int start = 0; start < n; start += 2 * half) {
            for (int i = start; i < start + half; ++i) {
                const float a = x[i], b = x[i + half];
                x[i] = a + b, x[i + half] = a - b;
            }
        }
    }
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    for (int i = 0; i < n; ++i) x[i] *= scale;
}

}  // namespace gs
