"""64 clients at once against a real server: does every answer end exactly once, and does nothing stay behind?

    python bench/load.py [--clients 64] [--each 10] [--seed 0] [MODEL]

Three of ten requests are streams whose client hangs up in the middle, one is wrong, the others are streams
and whole answers; who is told to come back later (429) does. The first pass warms up; after the second one it
prints how all ended, how long the first token took, and what of pages and memory is not back where it was.
Exit code 1 where an answer ended otherwise than once, or a page is still held.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from soak import TALK, Server, events

KINDS = ("leaves", "leaves", "leaves", "wrong", "stream", "stream", "stream", "whole", "whole", "whole")
ENDS = {"leaves": "left", "wrong": "400", "stream": "200, ended once", "whole": "200, ended once"}


@dataclass(frozen=True)
class Outcome:
    """How one request ended, and when its first token came (None: it asked for none, or all at once)."""

    kind: str
    end: str
    first_s: float | None = None


def one(server: Server, kind: str, dice: random.Random) -> Outcome:
    """One request of a kind, asked again for as long as the server is full."""
    seed = dice.random()
    while (outcome := _ask(server, kind, random.Random(seed))).end.startswith("429"):
        time.sleep(dice.uniform(0.1, 0.5))
    return outcome


def _ask(server: Server, kind: str, dice: random.Random) -> Outcome:
    body = {
        "model": server.models[0],
        "messages": [{"role": "user", "content": TALK * dice.randint(1, 4) + str(dice.random())}],
        "temperature": 1.5,
        "max_tokens": dice.randint(4, 40),
        "stream": kind in ("stream", "leaves"),
    }
    if kind == "wrong":
        status, _ = server.ask("POST", "/v1/chat/completions", {**body, "temperature": -1})
        return Outcome(kind, f"{status}")
    if kind == "whole":
        status, data = server.ask("POST", "/v1/chat/completions", body)
        ends = [choice.get("finish_reason") for choice in json.loads(data).get("choices", ())]
        return Outcome(kind, _ended(status, sum(map(bool, ends))))
    return _streamed(server, {**body, "max_tokens": 500} if kind == "leaves" else body, kind)


def _streamed(server: Server, body: dict[str, object], kind: str) -> Outcome:
    """A stream to its end, or one that is left after its first token."""
    began, first_s, finishes, dones = time.perf_counter(), None, 0, 0
    with server.chat(body) as (connection, response):
        for event in events(response):
            if event is None:
                dones += 1
                continue
            for choice in event.get("choices", ()):
                if first_s is None and (choice["delta"].get("content") or choice["finish_reason"]):
                    first_s = time.perf_counter() - began
                finishes += choice["finish_reason"] is not None
            if kind == "leaves" and first_s is not None:
                if connection.sock is not None:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                return Outcome(kind, "left", first_s)
        return Outcome(kind, _ended(response.status, finishes if finishes == dones else -1), first_s)


def _ended(status: int, times: int) -> str:
    return f"{status}, ended once" if times == 1 else f"{status}, ended {times} times"


def load(server: Server, clients: int, each: int, seed: int) -> list[Outcome]:
    """So many clients at once, each with so many requests, one after the other."""
    dice = random.Random(seed)
    kinds = [KINDS[i % len(KINDS)] for i in range(clients * each)]
    dice.shuffle(kinds)

    def client(number: int) -> list[Outcome]:
        own = random.Random(seed * clients + number)
        return [one(server, kind, own) for kind in kinds[number * each : (number + 1) * each]]

    with ThreadPoolExecutor(clients) as pool:
        return [outcome for outcomes in pool.map(client, range(clients)) for outcome in outcomes]


def pages_held(server: Server) -> int:
    """Pages of K/V that sequences hold once nobody asks; those kept for reuse are not among them."""
    server.memory()
    text = server.ask("GET", "/metrics")[1].decode()
    return sum(int(float(value)) for value in re.findall(r"^gemstead_kv_pages_live\S* (\S+)$", text, re.M))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(100 * share) - 1]


def wrong(outcomes: list[Outcome]) -> list[Outcome]:
    """Those that ended otherwise than their kind should."""
    return [outcome for outcome in outcomes if outcome.end != ENDS[outcome.kind]]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="pebble")
    for name, value in (("clients", 64), ("each", 10), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    server = Server.start([given.model], "--context", "1024")
    try:
        load(server, given.clients, given.each, given.seed)
        before = server.memory()["resident"]
        outcomes = load(server, given.clients, given.each, given.seed + 1)
        held, after = pages_held(server), server.memory()["resident"]
    finally:
        status = server.end()
    for (kind, end), count in sorted(Counter((o.kind, o.end) for o in outcomes).items()):
        print(f"{count:6} {kind}: {end}")
    first = [outcome.first_s for outcome in outcomes if outcome.first_s is not None]
    print(f"first token: median {statistics.median(first):.2f} s, p99 {percentile(first, 0.99):.2f} s")
    print(f"pages still held: {held}; resident {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
    print(f"exit status {status}")
    return int(bool(wrong(outcomes)) or held > 0 or status != 0)


if __name__ == "__main__":
    sys.exit(main())
