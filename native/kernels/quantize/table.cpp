// The list of quantize kernels, slowest first.
#include "quantize.h"

namespace gs {

namespace quantize {
void scalar(const float*, const Activations&, int) noexcept;
#ifdef GS_X86
void avx2(const float*, const Activations&, int) noexcept;
#endif
#ifdef GS_ARM64
void neon(const float*, const Activations&, int) noexcept;
void i8mm(const float*, const Activations&, int) noexcept;
#endif
}  // namespace quantize

static constexpr Entry<Quantize> kTable[] = {
    {Isa::scalar, quantize::scalar},
#ifdef GS_X86
    {Isa::avx2, quantize::avx2},
#endif
#ifdef GS_ARM64
    {Isa::neon, quantize::neon},
    {Isa::i8mm, quantize::i8mm},
#endif
};

std::span<const Entry<Quantize>> quantize_table() noexcept { return kTable; }

}  // namespace gs
