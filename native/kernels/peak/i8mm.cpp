// peak with the int8 matrix product of ARMv8.6: neon.cpp with GS_I8MM.
#define GS_I8MM
#include "neon.cpp"
