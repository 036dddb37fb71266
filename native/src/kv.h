// The memory of keys and values: pages of float16 or q8_0, a run of layers a pool. The engine above decides
// which page holds which positions; a page is [page_tokens][num_kv_heads][head_dim] for K and as much for V.
// Where V is the raw K (v_from_k) only V is kept: a key is its value times the norm's weight, turned.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "../include/layout.h"
#include "../kernels/kv/kv.h"

namespace gs {

class Cache {
public:
    static constexpr int kChunk = 512;  // positions whose angles are made at a time

    // Reserves address space; the system gives memory as pages are first written. Throws std::bad_alloc.
    Cache(const gs_spec& spec, const gs_layer* layers, const int32_t* pages, int32_t page_tokens, KvFormat format);
    ~Cache();
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    int page_tokens() const noexcept { return page_tokens_; }
    KvFormat format() const noexcept { return format_; }
    int pages(int pool) const noexcept { return pools_[static_cast<size_t>(pool)].pages; }
    int64_t bytes() const noexcept { return bytes_; }
    // All that a page holds of a pool's layers, one behind the other.
    int64_t page_bytes(int pool) const noexcept;
    void read_page(int pool, int page, void* out) const noexcept;
    void write_page(int pool, int page, const void* data) noexcept;
    int num_pools() const noexcept { return static_cast<int>(pools_.size()); }
    // The first key (value) of a page of a layer; keys of one head are token_bytes apart.
    uint8_t* keys(int pool, int slot, int page) const noexcept { return at(pool, 2 * slot, page); }
    uint8_t* values(int pool, int slot, int page) const noexcept {
        return only_values(pool) ? at(pool, slot, page) : at(pool, 2 * slot + 1, page);
    }
    int64_t token_bytes(int pool) const noexcept { return pools_[static_cast<size_t>(pool)].token_bytes; }
    bool only_values(int pool) const noexcept { return pools_[static_cast<size_t>(pool)].halves == 1; }
    // Whether a pool's K and V, and so what meets them, went through hadamard() first.
    bool mixed(int pool) const noexcept { return format_ == KvFormat::q8_0 && !only_values(pool); }

    // How a layer's keys come from its values, where only those are kept.
    struct Source {
        const float* weight = nullptr;  // [head_dim]
        const float* rope = nullptr;
        int pairs = 0;
        size_t angles = 0;
    };
    const Source& source(int pool, int slot) const noexcept {
        return sources_[static_cast<size_t>(pool)][static_cast<size_t>(slot)];
    }
    // cos [kChunk][pairs] of the positions from chunk * kChunk, and as much sin behind it.
    const float* angles(const Source& source, int chunk) const noexcept {
        return angles_[source.angles].chunks[static_cast<size_t>(chunk)].get();
    }
    // Makes the angles of every position below `end`; until then, no key can be made there.
    void reach(int end);
    int reached() const noexcept { return angles_.empty() ? std::numeric_limits<int>::max() : reached_; }

private:
    struct Memory {
        uint8_t* base;
        int pages, layers, halves;          // halves: K and V, or V alone
        int64_t token_bytes, half_bytes;    // of K or of V of one layer, one token and one page
    };
    struct Angles {
        const float* rope;
        int pairs;
        std::vector<std::unique_ptr<float[]>> chunks;
    };
    uint8_t* at(int pool, int half, int page) const noexcept {
        const Memory& m = pools_[static_cast<size_t>(pool)];
        return m.base + (static_cast<int64_t>(half) * m.pages + page) * m.half_bytes;
    }
    void find_sources(const gs_spec& spec, const gs_layer* layers);

    int page_tokens_, reached_ = 0;
    KvFormat format_;
    int64_t bytes_ = 0;
    void* memory_ = nullptr;
    std::vector<Memory> pools_;
    std::array<std::vector<Source>, GS_MAX_POOLS> sources_;
    std::vector<Angles> angles_;
};

// The orthonormal Walsh-Hadamard transform, its own inverse, over runs of the largest power of two that divides
// n: spreads what stands out over a head, which int8 blocks need (docs/adr/0007). Products of two stay the same.
void hadamard(float* x, int n) noexcept;

}  // namespace gs
