// matmul_q4_0 with the int8 dot product of ARMv8.2: the kernel of neon.cpp, see ../neon.h.
#define GS_DOTPROD
#include "neon.cpp"
