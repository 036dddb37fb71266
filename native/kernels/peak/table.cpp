// The list of peak kernels, slowest first.
#include "peak.h"

namespace gs {

namespace peak {
int64_t scalar(int64_t) noexcept;
#ifdef GS_X86
int64_t avx2(int64_t) noexcept;
int64_t avx512(int64_t) noexcept;
#endif
#ifdef GS_ARM64
int64_t neon(int64_t) noexcept;
int64_t dotprod(int64_t) noexcept;
int64_t i8mm(int64_t) noexcept;
#endif
}  // namespace peak

static constexpr Entry<Peak> kTable[] = {
    {Isa::scalar, peak::scalar},
#ifdef GS_X86
    {Isa::avx2, peak::avx2},
    {Isa::avx512, peak::avx512},
#endif
#ifdef GS_ARM64
    {Isa::neon, peak::neon},
    {Isa::dotprod, peak::dotprod},
    {Isa::i8mm, peak::i8mm},
#endif
};

std::span<const Entry<Peak>> peak_table() noexcept { return kTable; }

}  // namespace gs
