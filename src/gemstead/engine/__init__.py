"""Tokens in, tokens out: pages, scheduling, sampling and drafting over a backend's forward.

Knows no text, no HTTP and no torch. engine.py is the door; session.py, above, is its only caller in
the straight line.
"""
