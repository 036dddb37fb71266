"""Bytes on disk: quantized formats, safetensors and GGUF readers and writers, and the store of named tensors.

Reads what spec/ describes and hands backends read-only views; computes nothing.
"""
