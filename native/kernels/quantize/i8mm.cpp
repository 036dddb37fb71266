// quantize for the int8 matrix product of ARMv8.6: neon.cpp, which pairs the tokens.
#define GS_I8MM
#include "neon.cpp"
