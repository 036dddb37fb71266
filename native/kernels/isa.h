// The instruction sets kernels are written for, and how one is chosen.
// Every op has a table of entries, slowest first; the last one that the machine can run wins.
// GEMSTEAD_ISA=scalar (or avx2, ...) caps the choice; opening a model refuses a name that the machine
// does not run. Nothing here computes.
#pragma once

#include <cstdint>
#include <span>

#if defined(__x86_64__) || defined(_M_X64)
#define GS_X86 1
#if defined(__GNUC__) && !defined(__clang__)  // GCC 12 warns of its own _mm512_undefined_ps
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
// All of x86-64-v3 that the kernels use; put after every include, closed by GS_END_TARGET.
#if defined(__clang__)
#define GS_BEGIN_AVX2 \
    _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,bmi2\"))), apply_to = function)")
#define GS_END_TARGET _Pragma("clang attribute pop")
#else
#define GS_BEGIN_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,f16c,bmi2\")")
#define GS_END_TARGET _Pragma("GCC pop_options")
#endif
// AVX-512 as Ice Lake, Zen 4 and later have it: wide registers without VNNI stay with AVX2.
#if defined(GS_EMULATED_AVX512)  // tests/emulated_avx512.h has put AVX2 behind its intrinsics
#define GS_BEGIN_AVX512 GS_BEGIN_AVX2
#elif defined(__clang__)
#define GS_BEGIN_AVX512 \
    _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni\"))), apply_to = function)")
#else
#define GS_BEGIN_AVX512           \
    _Pragma("GCC push_options")   \
    _Pragma("GCC target(\"avx2,fma,f16c,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni\")")
#endif
#elif defined(__aarch64__)
#define GS_ARM64 1  // NEON is part of it; only the int8 dot and matrix products need targets of their own
#include <arm_neon.h>
#if defined(__clang__)
#define GS_BEGIN_DOTPROD \
    _Pragma("clang attribute push(__attribute__((target(\"dotprod\"))), apply_to = function)")
#define GS_BEGIN_I8MM \
    _Pragma("clang attribute push(__attribute__((target(\"dotprod,i8mm\"))), apply_to = function)")
#define GS_END_TARGET _Pragma("clang attribute pop")
#else
#define GS_BEGIN_DOTPROD _Pragma("GCC push_options") _Pragma("GCC target(\"arch=armv8.2-a+dotprod\")")
#define GS_BEGIN_I8MM \
    _Pragma("GCC push_options") _Pragma("GCC target(\"arch=armv8.2-a+dotprod+i8mm\")")
#define GS_END_TARGET _Pragma("GCC pop_options")
#endif
#endif

namespace gs {

// Ascending within an architecture: a machine that runs one runs those before it.
enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2, neon = 3, dotprod = 4, i8mm = 5 };

// What this machine can run and GEMSTEAD_ISA allows; probed once.
Isa isa() noexcept;
// What this machine can run.
Isa probed_isa() noexcept;
// What is wrong with GEMSTEAD_ISA, or nullptr.
const char* isa_complaint() noexcept;
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
