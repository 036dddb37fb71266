// matmul_q6_k with the int8 matrix product of ARMv8.6: the kernel of neon.cpp, see ../neon.h.
#define GS_I8MM
#include "neon.cpp"
