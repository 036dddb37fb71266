"""One engine in a process of its own, that times what it is asked to: ours, llama.cpp, or transformers.

    python bench/workers.py KIND MODEL THREADS CONTEXT

Reads lines of JSON, {"measure": a method of Engine, "depth": n, "tokens": n}, and answers
each with {"seconds": s}; the first line it writes says what it is. Started by peer.py with the Python of the
environment that holds the engine, so gemstead is imported by ours and by transformers' only.
"""

from __future__ import annotations

import copy
import ctypes
import json
import random
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

CHUNK_TOKENS = 512  # of a prompt, in every engine
SEQUENCES = 4  # that are decoded together
CLIENT_TOKENS = 128  # of each client's prompt
SPREAD = 0.02  # of random matrices


class Engine(Protocol):
    """What a worker can time. `about`: its name and the number format it computes from."""

    about: dict[str, str]

    def prefill(self, depth: int, tokens: int) -> float:
        """Seconds to read `tokens` more of a prompt after `depth` cached ones, up to the last's logits."""

    def decode(self, depth: int, tokens: int) -> float:
        """Seconds for `tokens` single steps after `depth` cached ones."""

    def together(self, depth: int, tokens: int) -> float:
        """Seconds for `tokens` tokens of SEQUENCES sequences in one batch, after a token each (depth 0)."""

    def clients(self, depth: int, tokens: int) -> float:
        """Seconds for SEQUENCES clients who come at once with CLIENT_TOKENS each and get `tokens` in all."""


class Prompts:
    """The same random tokens for every engine: a fixed past, and a fresh end for every measurement."""

    def __init__(self, vocab_size: int, context: int) -> None:
        self._random = random.Random(0)
        self._range = (vocab_size // 4, vocab_size // 2)  # no control or media tokens
        self.past = self.fresh(context)

    def fresh(self, count: int) -> list[int]:
        """Tokens not seen before."""
        return [self._random.randrange(*self._range) for _ in range(count)]


class Ours:
    """gemstead, through its engine as a request goes."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        from gemstead.machine.measure import Plan, open_subject, play

        self._play = play
        depth = max(0, context - CHUNK_TOKENS)
        plan = Plan(
            depths=(0, depth),
            sequences=(1, SEQUENCES),
            prompt_tokens=CHUNK_TOKENS,
            new_tokens=CHUNK_TOKENS // 2,
        )
        self._subject = open_subject(path, plan, "auto", threads)
        self._prompts = Prompts(self._subject.spec.vocab_size, context)
        self.about = {"name": f"gemstead {self._subject.name}", "format": self._subject.format}

    def prefill(self, depth: int, tokens: int) -> float:
        """See Engine."""
        ids = [*self._prompts.past[:depth], *self._prompts.fresh(tokens)]
        rows, seconds = self._play(self._subject, [ids], 0).last(tokens)
        return seconds * tokens / rows

    def decode(self, depth: int, tokens: int) -> float:
        """See Engine."""
        return sum(self._play(self._subject, [self._prompts.past[: max(depth, 1)]], tokens).decode_s)

    def together(self, depth: int, tokens: int) -> float:
        """See Engine."""
        assert not depth, "sequences together are timed at depth 0"
        prompts = [self._prompts.fresh(1) for _ in range(SEQUENCES)]
        return sum(self._play(self._subject, prompts, tokens // SEQUENCES).decode_s)

    def clients(self, depth: int, tokens: int) -> float:
        """See Engine."""
        assert not depth, "clients are timed at depth 0"
        prompts = [self._prompts.fresh(CLIENT_TOKENS) for _ in range(SEQUENCES)]
        played = self._play(self._subject, prompts, tokens // SEQUENCES - 1)  # one comes with the prompt
        return played.prompt_s + sum(played.decode_s)


class LlamaCpp:
    """llama.cpp, through llama-cpp-python's eval; its own sampling is not timed (nor needed: see perf.md).

    A long past is read once and its K/V put back from a copy before each measurement.
    """

    def __init__(self, path: str, threads: int, context: int) -> None:
        import llama_cpp

        self._lib, self._threads, self._pasts = llama_cpp, threads, dict[int, Any]()
        self._llama = llama_cpp.Llama(
            model_path=path,
            n_ctx=context,
            n_batch=CHUNK_TOKENS,
            n_ubatch=CHUNK_TOKENS,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )
        self._prompts = Prompts(self._llama.n_vocab(), context)
        self.about = {"name": f"llama.cpp ({version('llama-cpp-python')})", "format": ""}

    def _fill(self, depth: int) -> None:
        self._llama.reset()  # a sliding window's cache cannot be taken back: read the past again
        if depth in self._pasts:
            context, kept = self._llama._ctx.ctx, self._pasts[depth]
            self._lib.llama_state_set_data(context, kept, len(kept))
            self._llama.n_tokens = depth
        elif depth:
            self._llama.eval(self._prompts.past[:depth])
            if depth >= CHUNK_TOKENS:
                self._keep(depth)

    def _keep(self, depth: int) -> None:
        context = self._llama._ctx.ctx
        size = self._lib.llama_state_get_size(context)
        self._pasts[depth] = (ctypes.c_uint8 * size)()
        self._lib.llama_state_get_data(context, self._pasts[depth], size)

    def prefill(self, depth: int, tokens: int) -> float:
        """See Engine."""
        self._fill(depth)
        ids = self._prompts.fresh(tokens)
        start = time.perf_counter()
        self._llama.eval(ids)
        return time.perf_counter() - start

    def decode(self, depth: int, tokens: int) -> float:
        """See Engine."""
        self._fill(max(depth, 1))
        ids = self._prompts.fresh(tokens)
        start = time.perf_counter()
        for token in ids:
            self._llama.eval([token])
        return time.perf_counter() - start

    def together(self, depth: int, tokens: int) -> float:
        """See Engine."""
        assert not depth, "sequences together are timed at depth 0"
        return self._batched(1, tokens // SEQUENCES)[1]

    def clients(self, depth: int, tokens: int) -> float:
        """What llama-server does with its slots, without HTTP: all prompts in one batch, then all decode."""
        assert not depth, "clients are timed at depth 0"
        return sum(self._batched(CLIENT_TOKENS, tokens // SEQUENCES - 1))

    def _batched(self, prompt_tokens: int, steps: int) -> tuple[float, float]:
        """Seconds for the prompts of SEQUENCES sequences, and for `steps` tokens more of each."""
        lib, times = self._lib, [0.0, 0.0]
        options = lib.llama_context_default_params()
        options.n_ctx, options.n_seq_max = SEQUENCES * max(256, prompt_tokens + steps + 1), SEQUENCES
        options.n_threads = options.n_threads_batch = self._threads
        context = lib.llama_init_from_model(self._llama._model.model, options)
        batch = lib.llama_batch_init(SEQUENCES * prompt_tokens, 0, 1)
        for position in (0, *range(prompt_tokens, prompt_tokens + steps)):
            count = 1 if position else prompt_tokens
            batch.n_tokens = SEQUENCES * count
            for row in range(batch.n_tokens):
                sequence, at = divmod(row, count)
                batch.token[row], batch.pos[row] = self._prompts.fresh(1)[0], position + at
                batch.seq_id[row][0], batch.n_seq_id[row] = sequence, 1
                batch.logits[row] = at == count - 1
            start = time.perf_counter()
            if lib.llama_decode(context, batch):
                raise SystemExit("llama.cpp could not decode the batch")
            lib.llama_get_logits_ith(context, batch.n_tokens - 1)  # waits for the result
            times[position > 0] += time.perf_counter() - start
        lib.llama_batch_free(batch)
        lib.llama_free(context)
        return times[0], times[1]


class Transformers:
    """transformers in bfloat16: a folder's own weights, or random ones of a GGUF's shape."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._torch = torch
        if Path(path).is_dir():
            self._model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
        else:
            self._model = _random_model(path, torch, transformers)
        self._model.eval()
        self._prompts = Prompts(self._model.config.get_text_config().vocab_size, context)
        self._pasts: dict[int, Any] = {}
        self.about = {"name": f"transformers {transformers.__version__}", "format": "bf16"}

    def _forward(self, ids: list[int], past: Any) -> Any:
        """One forward with the last row's logits, as generate() does it; the K/V after it."""
        with self._torch.no_grad():
            tokens = self._torch.tensor([ids])
            out = self._model(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
        return out.past_key_values

    def _past(self, depth: int) -> Any:
        if depth and depth not in self._pasts:
            past = None
            for start in range(0, depth, CHUNK_TOKENS):
                past = self._forward(self._prompts.past[start : min(start + CHUNK_TOKENS, depth)], past)
            self._pasts[depth] = past
        return copy.deepcopy(self._pasts.get(depth))

    def prefill(self, depth: int, tokens: int) -> float:
        """See Engine."""
        past, ids = self._past(depth), self._prompts.fresh(tokens)
        start = time.perf_counter()
        self._forward(ids, past)
        return time.perf_counter() - start

    def decode(self, depth: int, tokens: int) -> float:
        """See Engine."""
        past, ids = self._past(max(depth, 1)), self._prompts.fresh(tokens)
        start = time.perf_counter()
        for token in ids:
            past = self._forward([token], past)
        return time.perf_counter() - start

    def together(self, depth: int, tokens: int) -> float:
        """See Engine."""
        assert not depth, "sequences together are timed at depth 0"
        return self._batched(1, tokens // SEQUENCES)[1]

    def clients(self, depth: int, tokens: int) -> float:
        """See Engine."""
        assert not depth, "clients are timed at depth 0"
        return sum(self._batched(CLIENT_TOKENS, tokens // SEQUENCES - 1))

    def _batched(self, prompt_tokens: int, steps: int) -> tuple[float, float]:
        """Seconds for the prompts of SEQUENCES sequences, and for `steps` tokens more of each."""
        past, times = None, [0.0, 0.0]
        with self._torch.no_grad():
            for step in range(steps + 1):
                count = 1 if step else prompt_tokens
                ids = self._torch.tensor([self._prompts.fresh(count) for _ in range(SEQUENCES)])
                start = time.perf_counter()
                out = self._model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
                past = out.past_key_values
                times[step > 0] += time.perf_counter() - start
        return times[0], times[1]


def _random_model(path: str, torch: Any, transformers: Any) -> Any:
    """A model of the file's shape; its weights repeat one drawn tile, for billions of draws take minutes."""
    from transformers.initialization import no_init_weights

    from gemstead.spec.describe import config_of
    from gemstead.weights.store import open_store

    with open_store(path) as store:
        values = config_of(store.spec)
    config = transformers.AutoConfig.for_model(**values)
    config.dtype = torch.bfloat16
    with no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tile = torch.randn(1 << 20).mul_(SPREAD).to(torch.bfloat16)
    with torch.no_grad():
        for weight in model.parameters():
            flat = weight.view(-1)
            for start in range(0, flat.numel(), tile.numel()):
                flat[start : start + tile.numel()] = tile[: flat.numel() - start]
    return model


ENGINES: dict[str, type[Engine]] = {"ours": Ours, "llama.cpp": LlamaCpp, "transformers": Transformers}


def main() -> None:
    """Serve until the asker goes away."""
    kind, path, threads, context = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    answers = sys.stdout
    sys.stdout = sys.stderr  # what an engine prints must not mix with answers
    engine = ENGINES[kind](path, threads, context)
    print(json.dumps(engine.about), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        seconds = getattr(engine, asked["measure"])(asked["depth"], asked["tokens"])
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
