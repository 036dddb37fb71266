"""The PyTorch backend: GPU inference and training. Needs the optional extra gemstead[torch].

Importing this package imports torch; everything above it goes through backend.open_backend.
"""
