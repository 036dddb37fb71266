// The list of attention kernels, slowest first.
#include "attention.h"

namespace gs {

namespace attention {
extern const AttentionKernels scalar;
#ifdef GS_X86
extern const AttentionKernels avx2;
extern const AttentionKernels avx512;
#endif
#ifdef GS_ARM64
extern const AttentionKernels neon;
#endif
}  // namespace attention

std::span<const Entry<AttentionKernels>> attention_table() noexcept {
    static const Entry<AttentionKernels> table[] = {
        {Isa::scalar, attention::scalar},
#ifdef GS_X86
        {Isa::avx2, attention::avx2},
        {Isa::avx512, attention::avx512},
#endif
#ifdef GS_ARM64
        {Isa::neon, attention::neon},
#endif
    };
    return table;
}

}  // namespace gs
