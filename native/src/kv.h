// The memory of keys and values: float16 pages, a run of layers a pool. The engine above decides which
// page holds which positions; a page is [page_tokens][num_kv_heads][head_dim] for K and as much for V.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../include/layout.h"

namespace gs {

class Cache {
public:
    // Reserves address space; the system gives memory as pages are first written. Throws std::bad_alloc.
    Cache(const gs_spec& spec, const int32_t* pages, int32_t page_tokens);
    ~Cache();
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    int page_tokens() const noexcept { return page_tokens_; }
    int pages(int pool) const noexcept { return pools_[static_cast<size_t>(pool)].pages; }
    int64_t bytes() const noexcept { return bytes_; }
    // K and V of all layers of a pool in one page, one behind the other.
    int64_t page_bytes(int pool) const noexcept;
    void read_page(int pool, int page, void* out) const noexcept;
    void write_page(int pool, int page, const void* data) noexcept;
    int num_pools() const noexcept { return static_cast<int>(pools_.size()); }
    // The first key (value) of a page of a layer; keys of one head are head_dim * num_kv_heads apart.
    uint16_t* keys(int pool, int slot, int page) const noexcept { return at(pool, 2 * slot, page); }
    uint16_t* values(int pool, int slot, int page) const noexcept { return at(pool, 2 * slot + 1, page); }

private:
    struct Memory {
        uint16_t* base;
        int pages;
        int64_t page_values;  // of K or of V of one layer
        int layers;
    };
    uint16_t* at(int pool, int half, int page) const noexcept {
        const Memory& m = pools_[static_cast<size_t>(pool)];
        return m.base + (static_cast<int64_t>(half) * m.pages + page) * m.page_values;
    }

    int page_tokens_;
    int64_t bytes_ = 0;
    void* memory_ = nullptr;
    std::vector<Memory> pools_;
};

}  // namespace gs
