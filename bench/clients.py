"""Several clients of a real server at once, beside one alone: how much more it writes for them together.

    python bench/clients.py MODEL [--clients 8] [--words 110] [--tokens 48] [--rounds 3]

Starts `gemstead serve` and streams chats of different words through HTTP. Two figures for each number of
clients: all of the time from the first request to the last answer, prompts included, and decoding alone, from
the moment when the last client has its first token until the first one is done. One alone and all take turns;
medians, and their ratios, are printed and appended to bench/history.csv.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import history
from soak import Server, events

from gemstead.backend.native.cores import usable_cores
from gemstead.machine.quiet import Watch
from gemstead.weights.store import open_store

WORDS = ("river", "stone", "green", "seven", "house", "music", "paper", "light", "water", "north", "table")


@dataclass(frozen=True)
class Answer:
    """When a client's tokens came, by time.perf_counter, and how many it was told there were."""

    times: list[float]
    prompt: int
    tokens: int

    def within(self, begin: float, end: float) -> float:
        """Its tokens of that time; several may come in one event, so events are a share of the tokens."""
        return self.tokens * sum(begin < at <= end for at in self.times) / len(self.times)


def ask(server: Server, words: int, tokens: int, seed: int) -> Answer:
    """One streamed chat of random words, to the very end of `tokens`."""
    dice = random.Random(seed)
    body = {
        "model": server.models[0],
        "messages": [{"role": "user", "content": " ".join(dice.choice(WORDS) for _ in range(words))}],
        "temperature": 0,
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    times, usage = [], {}
    with server.chat(body) as (_, response):
        if response.status != 200:
            raise RuntimeError(response.read().decode())
        for event in filter(None, events(response)):
            usage = event.get("usage") or usage
            if any(choice["delta"].get("content") for choice in event["choices"]):
                times.append(time.perf_counter())
    return Answer(times, usage["prompt_tokens"], usage["completion_tokens"])


def together(server: Server, clients: int, words: int, tokens: int, seed: int) -> tuple[float, float]:
    """Tokens a second of that many clients: prompts included, and while all of them decode."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda i: ask(server, words, tokens, seed + i), range(clients)))
    took = time.perf_counter() - began
    first, last = max(answer.times[0] for answer in answers), min(answer.times[-1] for answer in answers)
    if last <= first:
        raise SystemExit("an answer was over before the last one began: ask for more --tokens")
    decoded = sum(answer.within(first, last) for answer in answers)
    whole, decoding = sum(answer.tokens for answer in answers) / took, decoded / (last - first)
    given = f"{answers[0].prompt} tokens in, {answers[0].tokens} out"
    print(f"{clients} at once, {given}: {whole:.1f} tok/s, decoding {decoding:.1f}", flush=True)
    return whole, decoding


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    for name, value in (("clients", 8), ("words", 110), ("tokens", 48), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--note", default="")
    given = parser.parse_args()
    server = Server.start([str(given.model)], "--context", "2048", "--max-queue", str(given.clients + 1))
    counts = (1, given.clients)
    rates: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    try:
        together(server, 1, given.words, given.tokens, 0)  # warms up
        watch = Watch([server.process.pid])
        for number in range(1, given.rounds + 1):
            for count in counts if number % 2 else counts[::-1]:
                rates[count].append(together(server, count, given.words, given.tokens, 1000 * number + count))
        others = watch.others() or 0.0
    finally:
        server.end()
    with open_store(given.model) as store:
        name, kind = store.spec.name, store.main_format
    history.append(entries(rates, given, name, kind, others))


def entries(
    rates: dict[int, list[tuple[float, float]]],
    given: argparse.Namespace,
    name: str,
    kind: str,
    others: float,
) -> Iterator[history.Line]:
    """The lines of the history, printed too."""
    for which, measure in enumerate(("prompts included", "decoding")):
        one, several = ([rate[which] for rate in rates[count]] for count in (1, given.clients))
        ratio, middle, alone = (
            history.ratios(several, one),
            statistics.median(several),
            statistics.median(one),
        )
        what = f"{given.clients} clients, {given.words} words in, {given.tokens} out, {measure}"
        print(
            f"{what}: {middle:.1f} against {alone:.1f} tok/s of one, {ratio.median:.2f}x "
            f"({ratio.least:.2f} to {ratio.greatest:.2f})"
        )
        yield history.Line(
            model=name,
            format=kind,
            threads=usable_cores(),
            measure=what,
            unit="tok/s",
            ours=middle,
            spread=ratio.relative,
            backend="native",
            peer_name="one client",
            peer=alone,
            ratio=ratio.median,
            note=f"through HTTP; others used {others:.0%}; {given.note}",
        )


if __name__ == "__main__":
    main()
