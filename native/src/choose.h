// From one row of logits to one token. engine/choosing.py says the same in numpy, and is the definition.
#pragma once

#include "../include/gemstead.h"

namespace gs {

// ids[0]: the token. Unless logprobs is NULL: ids[1..top] the best by the row itself, greatest first, ties to the lowest
// id, and logprobs[0..top] of all of them. work
// [2 * vocab_size + 1] is written over. What is wrong, or nullptr. Throws std::bad_alloc only.
const char* choose(const gs_choice& choice, float* work, int32_t* ids, double* logprobs);

}  // namespace gs
