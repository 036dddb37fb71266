// How the scalar kernels add up what a register of eight lanes would hold: AVX2's order, so that the
// definition and the fast kernel give the same bits.
#pragma once

namespace gs {

inline float lanes_total(const float* lane) noexcept {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

}  // namespace gs
