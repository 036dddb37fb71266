"""Every numeric tolerance of the tests, with its reason."""

# Two float32 forwards that round in different orders. Against float64 each is off by about 2e-6 in the
# mean and 3e-5 at worst on logits of spread 2.5; the reference is the nearer one.
REFERENCE_LOGITS = 1e-4

# The torch backend in float32: fused attention and matrix products sum in another order again.
TORCH_LOGITS = 2e-3
