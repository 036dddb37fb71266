// The list of matmul_float kernels, slowest first.
#include "matmul_float.h"

namespace gs {

namespace matmul_float {
void scalar(FloatFormat, const void*, int, int64_t, const float*, int64_t, int, float*, int64_t) noexcept;
#ifdef GS_X86
void avx2(FloatFormat, const void*, int, int64_t, const float*, int64_t, int, float*, int64_t) noexcept;
void avx512(FloatFormat, const void*, int, int64_t, const float*, int64_t, int, float*, int64_t) noexcept;
#endif
#ifdef GS_ARM64
void neon(FloatFormat, const void*, int, int64_t, const float*, int64_t, int, float*, int64_t) noexcept;
#endif
}  // namespace matmul_float

static constexpr Entry<MatmulFloat> kTable[] = {
    {Isa::scalar, matmul_float::scalar},
#ifdef GS_X86
    {Isa::avx2, matmul_float::avx2},
    {Isa::avx512, matmul_float::avx512},
#endif
#ifdef GS_ARM64
    {Isa::neon, matmul_float::neon},
#endif
};

std::span<const Entry<MatmulFloat>> matmul_float_table() noexcept { return kTable; }

}  // namespace gs
