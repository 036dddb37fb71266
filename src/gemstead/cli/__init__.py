"""The command line: one file per command, `main.py` above them, `screen.py` below them."""
