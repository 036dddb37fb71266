// The list of attention kernels, slowest first.
#include "attention.h"

namespace gs {

namespace attention {
extern const AttentionKernels scalar;
#ifdef GS_X86
extern const AttentionKernels avx2;
#endif
}  // namespace attention

std::span<const Entry<AttentionKernels>> attention_table() noexcept {
    static const Entry<AttentionKernels> table[] = {
        {Isa::scalar, attention::scalar},
#ifdef GS_X86
        {Isa::avx2, attention::avx2},
#endif
    };
    return table;
}

}  // namespace gs
