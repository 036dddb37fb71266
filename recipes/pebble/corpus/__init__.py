"""The generators behind pebble's training data: phrase banks in, conversations out.

Everything here is seeded and deterministic; the wordings live in ../phrases as plain text.
"""
