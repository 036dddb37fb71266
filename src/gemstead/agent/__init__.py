"""The agent turn: tools a model may call and the loop that runs them.

tools.py declares the built-in tools, loop.py runs them; neither knows a model, a backend or HTTP.
"""
