// The list of matmul_q8_0 kernels, slowest first.
#include "matmul_q8_0.h"

namespace gs {

namespace matmul_q8_0 {
void scalar(const uint8_t*, const Activations&, float*, int64_t) noexcept;
#ifdef GS_X86
void avx2(const uint8_t*, const Activations&, float*, int64_t) noexcept;
void avx512(const uint8_t*, const Activations&, float*, int64_t) noexcept;
#endif
#ifdef GS_ARM64
void neon(const uint8_t*, const Activations&, float*, int64_t) noexcept;
void dotprod(const uint8_t*, const Activations&, float*, int64_t) noexcept;
void i8mm(const uint8_t*, const Activations&, float*, int64_t) noexcept;
#endif
}  // namespace matmul_q8_0

static constexpr Entry<MatmulTile> kTable[] = {
    {Isa::scalar, matmul_q8_0::scalar},
#ifdef GS_X86
    {Isa::avx2, matmul_q8_0::avx2},
    {Isa::avx512, matmul_q8_0::avx512},
#endif
#ifdef GS_ARM64
    {Isa::neon, matmul_q8_0::neon},
    {Isa::dotprod, matmul_q8_0::dotprod},
    {Isa::i8mm, matmul_q8_0::i8mm},
#endif
};

std::span<const Entry<MatmulTile>> matmul_q8_0_table() noexcept { return kTable; }

}  // namespace gs
