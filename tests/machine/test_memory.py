"""Amounts of memory are believable."""

from gemstead.machine.memory import available_bytes, peak_bytes, total_bytes


def test_amounts_are_in_order():
    assert 0 < available_bytes() <= total_bytes() < 1 << 50
    assert 1 << 20 < peak_bytes() <= total_bytes()


def test_the_peak_never_falls():
    before = peak_bytes()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    risen = peak_bytes()
    del block
    assert before <= risen <= peak_bytes()
