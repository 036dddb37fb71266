// A pool of threads that shares out a job in small chunks: who is slow or descheduled takes fewer.
//
// run(count, job) calls job(chunk, thread) once for each chunk in [0, count), the caller helping, and
// returns when all are done. The chunks, never the threads, decide what is computed, so results do not
// depend on how many threads there are. Idle threads spin shortly, then sleep. One job at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace gs {

class Threads {
public:
    explicit Threads(int count);
    ~Threads();
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

    int count() const noexcept { return static_cast<int>(workers_.size()) + 1; }

    template <class Job>
    void run(int count, Job&& job) noexcept {
        static_assert(std::is_nothrow_invocable_v<Job, int, int>, "a job must not throw");
        if (count <= 1 || workers_.empty()) {
            for (int chunk = 0; chunk < count; ++chunk) job(chunk, 0);
            return;
        }
        using Plain = std::remove_reference_t<Job>;
        start(count, [](void* self, int chunk, int thread) noexcept { (*static_cast<Plain*>(self))(chunk, thread); },
              const_cast<void*>(static_cast<const void*>(&job)));
    }

private:
    using Call = void (*)(void*, int, int) noexcept;

    void start(int count, Call call, void* self) noexcept;
    void work(int thread) noexcept;
    void take_chunks(uint32_t epoch, int thread) noexcept;

    // The job. Who reads it must still win the ticket of its epoch: a job that changed meanwhile is not run.
    std::atomic<Call> call_{nullptr};
    std::atomic<void*> self_{nullptr};
    std::atomic<int> total_{0};
    alignas(64) std::atomic<uint64_t> ticket_{0};  // epoch << 32 | next chunk
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<uint32_t> epoch_{0};
    std::atomic<bool> ends_{false};
    std::vector<std::thread> workers_;
};

}  // namespace gs
