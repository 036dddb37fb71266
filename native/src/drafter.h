// A drafter: a few small layers that guess the next token from the K/V and the last hidden state of the
// model they draft for (docs/MODEL.md 8). It owns no K/V and writes none.
#pragma once

#include "model.h"

namespace gs {

class Drafter {
public:
    Drafter(const gs_drafter& drafter, const gs_layer* layers, Threads& threads)
        : drafter_(drafter), model_(drafter.spec, layers, threads) {}

    const gs_spec& spec() const noexcept { return drafter_.spec; }
    // One row a sequence, looking from its position back at the target's pages. given [rows][D of the target];
    // logits [wanted][vocab_size] after the softcap; next [wanted][D of the target]. Throws std::bad_alloc only.
    void step(Model& target, const Cache& cache, const gs_batch& batch, const float* given, float* logits,
              float* next);

private:
    void centroid_head(Input& x, float* logits);

    gs_drafter drafter_;
    Model model_;
    Input in_;
    Scratch<float> embedded_, joined_, clusters_, rows_, scores_;
};

}  // namespace gs
