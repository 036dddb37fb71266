// The list of matmul_q6_k kernels, slowest first.
#include "matmul_q6_k.h"

namespace gs {

namespace matmul_q6_k {
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
}  // namespace matmul_q6_k

static constexpr Entry<MatmulTile> kTable[] = {
    {Isa::scalar, matmul_q6_k::scalar},
#ifdef GS_X86
    {Isa::avx2, matmul_q6_k::avx2},
    {Isa::avx512, matmul_q6_k::avx512},
#endif
#ifdef GS_ARM64
    {Isa::neon, matmul_q6_k::neon},
    {Isa::dotprod, matmul_q6_k::dotprod},
    {Isa::i8mm, matmul_q6_k::i8mm},
#endif
};

std::span<const Entry<MatmulTile>> matmul_q6_k_table() noexcept { return kTable; }

}  // namespace gs
