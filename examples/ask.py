"""Ask one question; the built-in tools run by themselves."""

import gemstead

with gemstead.open("pebble") as model:
    print(model.ask("What is 17% of 2400?", temperature=0))
