"""A conversation of two turns with tools; run_turns keeps the list of messages up to date."""

import gemstead
from gemstead.agent.loop import ToolResult, run_turns
from gemstead.agent.tools import BUILT_IN

messages: list[gemstead.Message] = []
with gemstead.open("pebble") as model:
    for question in ("What is 15 * 12?", "Convert 3 miles to kilometres."):
        print(">", question)
        messages.append(gemstead.Message.user(question))
        for event in run_turns(lambda said: model.chat(said, BUILT_IN, temperature=0), messages, BUILT_IN):
            if isinstance(event, gemstead.TextDelta):
                print(event.text, end="")
            elif isinstance(event, ToolResult):
                print(f"[{event.call.name} says {event.result}]")
        print()
print(len(messages), "messages")
