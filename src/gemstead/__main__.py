"""`python -m gemstead`: the command line without the installed script.

Everything is in cli/main.py.
"""

from gemstead.cli.main import entry

if __name__ == "__main__":
    entry()
