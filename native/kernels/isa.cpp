// Which instruction set this machine runs: CPUID and XGETBV by hand, since compilers' own probes are
// not reliable in cross builds (zig's __builtin_cpu_supports is always 0).
#include "isa.h"

#include <cstdlib>
#include <cstring>

#ifdef GS_X86
#include <cpuid.h>
#endif

namespace gs {

#ifdef GS_X86
static bool runs_avx2() noexcept {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    const unsigned wanted = bit_FMA | bit_F16C | bit_OSXSAVE | bit_AVX;
    if ((c & wanted) != wanted) return false;
    unsigned low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6u) != 6u) return false;  // the system must save the wide registers
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2) && (b & bit_BMI2);
}
#endif

Isa probed_isa() noexcept {
#ifdef GS_X86
    static const bool wide = runs_avx2();
    if (wide) return Isa::avx2;
#endif
    return Isa::scalar;
}

const char* name_of(Isa isa) noexcept { return isa == Isa::avx2 ? "avx2" : "scalar"; }

Isa isa() noexcept {
    static const Isa chosen = [] {
        const char* forced = std::getenv("GEMSTEAD_ISA");
        for (const Isa one : {Isa::scalar, Isa::avx2}) {
            if (forced && !std::strcmp(forced, name_of(one)) && one <= probed_isa()) return one;
        }
        return probed_isa();
    }();
    return chosen;
}

}  // namespace gs
