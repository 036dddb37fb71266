"""Strings to tokens and back: tokenizer, chat template and output parser of Gemma 4.

Imports only spec, types and errors; nothing else in gemstead touches a turn token.
"""
