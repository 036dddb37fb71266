// The list of K/V kernels, slowest first.
#include "kv.h"

namespace gs {

namespace kv {
extern const KvKernels scalar;
#ifdef GS_X86
extern const KvKernels avx2;
#endif
#ifdef GS_ARM64
extern const KvKernels neon;
#endif
}  // namespace kv

std::span<const Entry<KvKernels>> kv_table() noexcept {
    static const Entry<KvKernels> table[] = {
        {Isa::scalar, kv::scalar},
#ifdef GS_X86
        {Isa::avx2, kv::avx2},
#endif
#ifdef GS_ARM64
        {Isa::neon, kv::neon},
#endif
    };
    return table;
}

}  // namespace gs
