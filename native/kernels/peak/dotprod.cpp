// peak with the int8 dot product of ARMv8.2: neon.cpp with GS_DOTPROD.
#define GS_DOTPROD
#include "neon.cpp"
