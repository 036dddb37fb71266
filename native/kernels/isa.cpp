// Which instruction set this machine runs: CPUID and XGETBV by hand, since compilers' own probes are
// not reliable in cross builds (zig's __builtin_cpu_supports is always 0); on ARM the system is asked.
#include "isa.h"

#include <cstdlib>
#include <cstring>

#if defined(GS_X86)
#include <cpuid.h>
#elif defined(GS_ARM64) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(GS_ARM64) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace gs {
namespace {

#if defined(GS_X86)
constexpr Isa kLevels[] = {Isa::scalar, Isa::avx2, Isa::avx512};

Isa probe() noexcept {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return Isa::scalar;
    const unsigned wanted = bit_FMA | bit_F16C | bit_OSXSAVE | bit_AVX;
    if ((c & wanted) != wanted) return Isa::scalar;
    unsigned low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6u) != 6u) return Isa::scalar;  // the system must save the wide registers
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2) || !(b & bit_BMI2)) return Isa::scalar;
#ifdef GS_EMULATED_AVX512
    return Isa::avx512;
#else
    const unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    const bool saved = (low & 0xe6u) == 0xe6u;  // masks, upper halves, registers 16 to 31
    return saved && (b & wide) == wide && (c & bit_AVX512VNNI) ? Isa::avx512 : Isa::avx2;
#endif
}
#elif defined(GS_ARM64)
constexpr Isa kLevels[] = {Isa::scalar, Isa::neon, Isa::dotprod, Isa::i8mm};

#if defined(__APPLE__)
bool has(const char* feature) noexcept {
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(feature, &value, &size, nullptr, 0) && value;
}
#endif

Isa probe() noexcept {
#if defined(__linux__)
    constexpr unsigned long dot_product = 1ul << 20, matrix_product = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
    if (!(getauxval(AT_HWCAP) & dot_product)) return Isa::neon;
    return getauxval(AT_HWCAP2) & matrix_product ? Isa::i8mm : Isa::dotprod;
#elif defined(__APPLE__)
    if (!has("hw.optional.arm.FEAT_DotProd")) return Isa::neon;
    return has("hw.optional.arm.FEAT_I8MM") ? Isa::i8mm : Isa::dotprod;
#else
    return Isa::neon;
#endif
}
#else
constexpr Isa kLevels[] = {Isa::scalar};

Isa probe() noexcept { return Isa::scalar; }
#endif

// The level GEMSTEAD_ISA names, if this machine runs it.
const Isa* forced_isa() noexcept {
    const char* name = std::getenv("GEMSTEAD_ISA");
    for (const Isa& one : kLevels) {
        if (name && !std::strcmp(name, name_of(one)) && one <= probed_isa()) return &one;
    }
    return nullptr;
}

}  // namespace

Isa probed_isa() noexcept {
    static const Isa probed = probe();
    return probed;
}

const char* name_of(Isa isa) noexcept {
    constexpr const char* kNames[] = {"scalar", "avx2", "avx512", "neon", "dotprod", "i8mm"};
    return kNames[static_cast<int>(isa)];
}

Isa isa() noexcept {
    static const Isa chosen = forced_isa() ? *forced_isa() : probed_isa();
    return chosen;
}

const char* isa_complaint() noexcept {
    const char* name = std::getenv("GEMSTEAD_ISA");
    if (!name || !*name || forced_isa()) return nullptr;
    return "GEMSTEAD_ISA names an instruction set that this machine does not run: scalar, avx2 and avx512 exist "
           "on x86-64, scalar, neon, dotprod and i8mm on ARM64; leave it out to use the best there is";
}

}  // namespace gs
