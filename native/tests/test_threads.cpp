// The thread pool: every chunk of every job runs exactly once and before run() returns, also when jobs
// follow each other at once and a worker wakes late from the job before.
#include <atomic>
#include <cstdio>
#include <vector>

#include "../src/threads.h"

int main() {
    int wrong = 0;
    for (const int count : {1, 2, 3, 5}) {
        gs::Threads threads(count);
        for (int job = 0; job < 60000; ++job) {
            const int chunks = 1 + job * 7 % 23;  // many, few, many: a late worker sees another total
            std::vector<std::atomic<int>> ran(static_cast<size_t>(chunks) + 64);
            std::atomic<int> strays{0};
            threads.run(chunks, [&](int chunk, int thread) noexcept {
                if (chunk < 0 || chunk >= chunks || thread < 0 || thread >= threads.count()) ++strays;
                else ++ran[static_cast<size_t>(chunk)];
            });
            for (int c = 0; c < chunks; ++c) wrong += ran[static_cast<size_t>(c)] != 1;
            wrong += strays;
        }
    }
    std::printf(wrong ? "threads: %d chunks ran wrongly\n" : "threads        every chunk once\n", wrong);
    return wrong != 0;
}
