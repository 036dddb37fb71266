// The instruction sets kernels are written for, and how one is chosen.
// Every op has a table of entries, slowest first; the last one that the machine can run wins.
// GEMSTEAD_ISA=scalar (or avx2, ...) caps the choice. Nothing here computes.
#pragma once

#include <cstdint>
#include <span>

#if defined(__x86_64__) || defined(_M_X64)
#define GS_X86 1
#include <immintrin.h>
// All of x86-64-v3 that the kernels use; put after every include, closed by GS_END_TARGET.
#if defined(__clang__)
#define GS_BEGIN_AVX2 \
    _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,bmi2\"))), apply_to = function)")
#define GS_END_TARGET _Pragma("clang attribute pop")
#else
#define GS_BEGIN_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c,bmi2\")")
#define GS_END_TARGET _Pragma("GCC pop_options")
#endif
#endif

namespace gs {

enum class Isa : int { scalar = 0, avx2 = 1 };

// What this machine can run and GEMSTEAD_ISA allows; probed once.
Isa isa() noexcept;
// What this machine can run.
Isa probed_isa() noexcept;
const char* name_of(Isa isa) noexcept;

template <class Function>
struct Entry {
    Isa isa;
    Function run;
};

// The best entry at or below `limit`; a table's first entry is always scalar.
template <class Function>
Function pick(std::span<const Entry<Function>> table, Isa limit) noexcept {
    Function best = table[0].run;
    for (const auto& entry : table) {
        if (entry.isa <= limit) best = entry.run;
    }
    return best;
}

}  // namespace gs
