// The list of row kernels, slowest first.
#include "rows.h"

namespace gs {

namespace rows {
extern const RowKernels scalar;
#ifdef GS_X86
extern const RowKernels avx2;
#endif
#ifdef GS_ARM64
extern const RowKernels neon;
#endif
}  // namespace rows

std::span<const Entry<RowKernels>> rows_table() noexcept {
    static const Entry<RowKernels> table[] = {
        {Isa::scalar, rows::scalar},
#ifdef GS_X86
        {Isa::avx2, rows::avx2},
#endif
#ifdef GS_ARM64
        {Isa::neon, rows::neon},
#endif
    };
    return table;
}

}  // namespace gs
