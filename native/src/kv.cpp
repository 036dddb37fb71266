// See kv.h.
#include "kv.h"

#include <sys/mman.h>

#include <new>

namespace gs {

Cache::Cache(const gs_spec& spec, const int32_t* pages, int32_t page_tokens) : page_tokens_(page_tokens) {
    for (int p = 0; p < spec.num_pools; ++p) {
        const gs_pool& pool = spec.pools[p];
        const int64_t values = static_cast<int64_t>(page_tokens) * pool.num_kv_heads * pool.head_dim;
        pools_.push_back({nullptr, pages[p], values});
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

Cache::~Cache() {
    if (memory_) munmap(memory_, static_cast<size_t>(bytes_));
}

}  // namespace gs
