"""Print an answer while it is written, and what it cost."""

import gemstead

messages = [gemstead.Message.user("What can you help me with?")]
with gemstead.open("pebble") as model:
    for event in model.chat(messages, seed=1):
        if isinstance(event, gemstead.TextDelta):
            print(event.text, end="", flush=True)
        elif isinstance(event, gemstead.Done):
            print(f"\n[{event.usage.completion_tokens} tokens, {event.reason}]")
        elif isinstance(event, gemstead.Failed):
            raise event.error
