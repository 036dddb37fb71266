// See threads.h. A worker that wakes late finds its epoch over and touches nothing.
#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gs {

static constexpr int kSpins = 4000;  // some tens of microseconds: longer than the gap between two jobs

static void relax() noexcept {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

Threads::Threads(int count) {
    try {
        for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (...) {  // the system gives no more threads: those there are must end before we do
        ends_ = true;
        epoch_.fetch_add(1, std::memory_order_release);
        epoch_.notify_all();
        for (auto& worker : workers_) worker.join();
        throw;
    }
}

Threads::~Threads() {
    ends_ = true;
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    for (auto& worker : workers_) worker.join();
}

void Threads::start(int count, Call call, void* self) noexcept {
    const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
    const uint64_t first = static_cast<uint64_t>(epoch) << 32;
    // Close the old job before the new one is written. A worker that woke late and already sees a new field
    // holds an old ticket, and its exchange then fails: the field's release comes after this store.
    ticket_.store(first | 0xffffffffu, std::memory_order_seq_cst);
    call_.store(call, std::memory_order_release);
    self_.store(self, std::memory_order_release);
    total_.store(count, std::memory_order_release);
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(first, std::memory_order_release);
    epoch_.store(epoch, std::memory_order_release);
    epoch_.notify_all();
    take_chunks(epoch, 0);
    // What is left runs on other threads right now; a chunk is small, so this is short.
    for (int spin = 0; done_.load(std::memory_order_acquire) < count; ++spin) {
        if (spin < kSpins) relax();
        else std::this_thread::yield();
    }
}

void Threads::take_chunks(uint32_t epoch, int thread) noexcept {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    for (;;) {
        if (static_cast<uint32_t>(ticket >> 32) != epoch) return;
        const int64_t chunk = static_cast<int64_t>(ticket & 0xffffffffu);
        const int total = total_.load(std::memory_order_acquire);
        const Call call = call_.load(std::memory_order_acquire);
        void* const self = self_.load(std::memory_order_acquire);
        if (chunk >= total) return;
        if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
        call(self, static_cast<int>(chunk), thread);
        done_.fetch_add(1, std::memory_order_release);
        ticket = ticket_.load(std::memory_order_acquire);
    }
}

void Threads::work(int thread) noexcept {
    uint32_t seen = 0;
    for (;;) {
        for (int spin = 0; spin < kSpins && epoch_.load(std::memory_order_acquire) == seen; ++spin) relax();
        epoch_.wait(seen, std::memory_order_acquire);
        seen = epoch_.load(std::memory_order_acquire);
        if (ends_.load(std::memory_order_acquire)) return;
        take_chunks(seen, thread);
    }
}

}  // namespace gs
