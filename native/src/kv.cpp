// See kv.h.
#include "kv.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace gs {

Cache::Cache(const gs_spec& spec, const int32_t* pages, int32_t page_tokens) : page_tokens_(page_tokens) {
    for (int p = 0; p < spec.num_pools; ++p) {
        const gs_pool& pool = spec.pools[p];
        const int64_t values = static_cast<int64_t>(page_tokens) * pool.num_kv_heads * pool.head_dim;
        pools_.push_back({nullptr, pages[p], values, pool.num_layers});
        bytes_ += 2 * 2 * values * pages[p] * pool.num_layers;
    }
    if (!bytes_) return;
    memory_ = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) {
        memory_ = nullptr;
        throw std::bad_alloc();
    }
    auto* next = static_cast<uint16_t*>(memory_);
    for (int p = 0; p < spec.num_pools; ++p) {
        Memory& m = pools_[static_cast<size_t>(p)];
        m.base = next;
        next += 2 * m.page_values * m.pages * spec.pools[p].num_layers;
    }
}

int64_t Cache::page_bytes(int pool) const noexcept {
    const Memory& m = pools_[static_cast<size_t>(pool)];
    return 2 * static_cast<int64_t>(sizeof(uint16_t)) * m.page_values * m.layers;
}

void Cache::read_page(int pool, int page, void* out) const noexcept {
    const Memory& m = pools_[static_cast<size_t>(pool)];
    const size_t bytes = sizeof(uint16_t) * static_cast<size_t>(m.page_values);
    for (int half = 0; half < 2 * m.layers; ++half)
        std::memcpy(static_cast<char*>(out) + static_cast<size_t>(half) * bytes, at(pool, half, page), bytes);
}

void Cache::write_page(int pool, int page, const void* data) noexcept {
    const Memory& m = pools_[static_cast<size_t>(pool)];
    const size_t bytes = sizeof(uint16_t) * static_cast<size_t>(m.page_values);
    for (int half = 0; half < 2 * m.layers; ++half)
        std::memcpy(at(pool, half, page), static_cast<const char*>(data) + static_cast<size_t>(half) * bytes, bytes);
}

Cache::~Cache() {
    if (memory_) munmap(memory_, static_cast<size_t>(bytes_));
}

}  // namespace gs
