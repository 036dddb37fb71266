// How many int8 products an instruction set can add up, in registers alone: what matrix kernels are held against.
//
// Multiplies ones by ones in as many chains as keep the units busy, kPeakRounds times `rounds`, and returns the sum of
// all accumulators: the products done. Chains and width are the instruction set's; the count is exact.
#pragma once

#include <cstdint>

#include "../isa.h"

namespace gs {

constexpr int kPeakRounds = 1000;  // int16 lanes that grow by 2 a round hold that

using Peak = int64_t (*)(int64_t rounds) noexcept;

std::span<const Entry<Peak>> peak_table() noexcept;

}  // namespace gs
