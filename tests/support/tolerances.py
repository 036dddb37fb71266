"""Every numeric tolerance of the tests, with its reason."""

# Two float32 forwards that round in different orders. Against float64 each is off by about 2e-6 in the
# mean and 3e-5 at worst on logits of spread 2.5; the reference is the nearer one.
REFERENCE_LOGITS = 1e-4

# The torch backend in float32: fused attention and matrix products sum in another order again. Measured:
# at most 3e-5 on a CPU; issue 2 allows 2e-3.
TORCH_LOGITS = 2e-4

# Gradients of one loss by two orders of summing, relative to the largest entry of each gradient;
# a gradient that is zero in theory (a router of one expert) comes out as noise below 1e-6.
TORCH_GRADIENTS = 1e-4

# The native backend on plain numbers: keys and values in float16 (relative 2^-11), sums in other orders.
# Measured on the models of its tests: at most 2.6e-3 on logits whose standard deviation is 0.4 to 0.8.
NATIVE_LOGITS = 5e-3

# ... an adapter at run time against the same merged: both sides round K and V. Measured: at most 6.1e-3.
NATIVE_MERGED = 1e-2

# ... on quantized weights: activations in int8, a scale per 32. Issue 3's bound, in nats.
NATIVE_QUANTIZED_KL = 1e-3

# K/V in q8_0 instead of f16, on random weights, in nats: measured at most 6e-5.
NATIVE_KV_KL = 2e-4

# llama.cpp on bfloat16 weights rounds every activation to bfloat16 (relative 2^-8); ours stay float32. How
# far below our best logit its choice may lie: measured 0.01 on dense models, 0.08 with experts.
LLAMA_CPP_BF16_TIES = 0.15

# The correlation of a quantized tiny drafter's scores with the reference's: measured 0.9902 at least.
NATIVE_QUANTIZED_DRAFTS = 0.985

# Our float32 forward and llama.cpp's of one quantized file, which rounds what goes into a matrix to eight
# bits, in nats: measured 4.4e-5 at most on average over a prompt, with experts; 2e-6 without. What q4_0
# itself changes in these models is 1.7e-4.
LLAMA_CPP_ROUNDED_INPUTS = 1e-4
