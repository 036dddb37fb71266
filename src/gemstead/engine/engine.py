"""The token step: plan, forward, accept. One decode path: verify 1 + k rows; k = 0 is plain.

Owns the sequences, the pages and the backend's cache. Knows no text. submit, cancel and wait may be
called from any thread; whoever waits does the stepping, one thread at a time. Above: session.py,
model.py. Below: backend/base.py.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Listing

import numpy as np

from gemstead.backend.base import Backend, Floats, Logits
from gemstead.engine.batching import draft_batch, make_batch, split_logits
from gemstead.engine.constraint import Constraint
from gemstead.engine.depth import Depth
from gemstead.engine.draft import Drafter, NoDraft
from gemstead.engine.options import EngineOptions, EngineStats
from gemstead.engine.pages import Pages, page_counts
from gemstead.engine.parking import Parking
from gemstead.engine.sampler import Sampler
from gemstead.engine.scheduler import Rows, Scheduler
from gemstead.engine.sequence import Collected, Sequence, check_ids
from gemstead.errors import (
    BackendError,
    CapacityError,
    CeilingError,
    ConfigError,
    ContextError,
    GemsteadError,
    InputError,
)
from gemstead.types import FinishReason, SamplingParams

_DEFAULTS = EngineOptions()
_CARD = SamplingParams()
_SCORE_BYTES = 64 << 20  # logits held by one step of a sequence that wants all of its rows


class Engine:
    """Runs sequences over one backend. `drafter` None: plain decoding."""

    def __init__(
        self, backend: Backend, options: EngineOptions = _DEFAULTS, drafter: Drafter | None = None
    ) -> None:
        self._backend = backend
        self.options = options
        self._drafter = drafter if drafter is not None and options.draft_tokens else NoDraft()
        can = self._can = backend.capabilities()
        if self._drafter.needs_hidden and can.drafter is None:
            raise ConfigError(
                "this drafter runs on the model's own draft head, but the backend has none open"
            )
        self.spec, self.adapters = can.spec, can.adapters
        slack = 0 if isinstance(self._drafter, NoDraft) else options.draft_tokens
        budget = options.budget(can.spec.max_position_embeddings, slack)
        context = budget.context_tokens
        counts = page_counts(can.spec.pools, can.kv_bytes_per_token, budget)
        self._cache = backend.new_cache(counts, options.page_tokens)
        if self._cache.size_bytes > options.memory_bytes:
            raise BackendError(
                f"the {can.name} backend took {self._cache.size_bytes:,} bytes for pages that should fit in "
                f"{options.memory_bytes:,}; its kv_bytes_per_token is wrong"
            )
        self.max_sequence_tokens = min(
            context,
            *(
                n * options.page_tokens
                for n, p in zip(counts, can.spec.pools, strict=True)
                if p.window is None
            ),
        )
        self._context = context
        parking = None
        if options.prefix_folder is not None:
            parking = Parking(options.prefix_folder, self._cache, options.prefix_bytes)
        self.pages = Pages(
            can.spec.pools, counts, budget, slack=slack, reuse=options.prefix_reuse, parking=parking
        )
        self.scheduler = Scheduler(
            self.pages,
            max_rows=options.max_rows,
            max_sequences=options.max_sequences,
            draft_tokens=slack,
            score_rows=max(1, _SCORE_BYTES // (4 * can.spec.vocab_size)),
        )
        self._arrivals: deque[Sequence] = deque()
        self._cancels: deque[Sequence] = deque()
        self._step_lock = threading.Lock()
        self._turn = threading.Condition()
        self._is_stepping = False
        names = "steps rows cached generated drafted accepted hits trials draft_failures failed"
        self._totals = dict.fromkeys(names.split(), 0)
        self._depth = Depth(slack)

    # ------------------------------------------------------------------ requests

    def submit(
        self,
        prompt_ids: Listing[int],
        params: SamplingParams = _CARD,
        *,
        constraint: Constraint | None = None,
        eos_ids: Iterable[int] | None = None,
        salt: bytes = b"",
        client: bytes = b"",
        adapter: str | None = None,
        collect: Collected | None = None,
    ) -> Sequence:
        """Queue a prompt. The output ends at `eos_ids` (None: the model's), max_tokens or the context.

        Sequences with different `salt` or `adapter` (the name of one the backend was opened with) share no
        pages; those of one `client` take turns with others'. `collect`, with max_tokens 0: "scores", every
        row's logits, or "pooled", the sum of the final hidden states, that of the token that begins texts
        left out. InputError for bad ids or an unknown adapter; CapacityError when a prompt can never fit.
        """
        number, digest = self._find_adapter(adapter)
        ids = check_ids(prompt_ids, self.spec.vocab_size)
        self._check_room(len(ids), collect is not None)
        asked = self.max_sequence_tokens if params.max_tokens is None else params.max_tokens
        sequence = Sequence(
            ids=ids,
            limit=min(len(ids) + asked, self.max_sequence_tokens),
            sampler=Sampler(params, ids, self.spec.vocab_size, self.spec.tokens.suppressed, self._can.choose),
            table=self.pages.new_table(salt, digest),
            eos_ids=frozenset(self.spec.tokens.eos if eos_ids is None else eos_ids),
            constraint=constraint,
            scores=[] if collect == "scores" else None,
            adapter=number,
            pooled=np.zeros(self.spec.hidden_size) if collect == "pooled" else None,
            client=client,
        )
        if sequence.room <= 0 and not sequence.needs_all_rows:
            sequence.finish_reason = "length"
        else:
            self._arrivals.append(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence now (or as soon as the running step ends): its pages return, no token follows."""
        self._cancels.append(sequence)
        self._reap()

    def wait(self, sequence: Sequence, *, until_finished: bool = False) -> None:
        """Return once the sequence has output to read, or has finished; step if nobody else does."""

        def is_ready() -> bool:
            return sequence.is_finished or (bool(sequence.outputs) and not until_finished)

        while True:
            with self._turn:
                while not is_ready() and self._is_stepping:
                    self._turn.wait()
                if is_ready():
                    return
                self._is_stepping = True
            try:
                self.step()
            finally:
                with self._turn:
                    self._is_stepping = False
                    self._turn.notify_all()

    def _find_adapter(self, name: str | None) -> tuple[int, bytes]:
        """The number the backend knows an adapter by, and the hash of what it holds; 0 for None."""
        if name is None:
            return 0, b""
        if not isinstance(name, str) or name not in self.adapters:
            known = ", ".join(self.adapters) or "none: give adapters= when opening the model"
            raise InputError(f"there is no adapter {str(name)[:200]!r} here; open are {known}")
        return 1 + list(self.adapters).index(name), self.adapters[name]

    def _check_room(self, prompt_tokens: int, ends_there: bool) -> None:
        answer = 0 if ends_there else 1
        allowed, held = self._context - answer, self.max_sequence_tokens - answer
        if prompt_tokens > allowed:
            # The APIs' own words, in which programs look for both numbers to shorten a conversation.
            raise ContextError(
                f"prompt is too long: {prompt_tokens} tokens > {allowed} maximum (this model's maximum "
                f"context length is {self._context} tokens here)",
                "shorten the prompt, or open the model with a longer context where it can have one "
                "(context=, --context)",
            )
        if prompt_tokens > held:
            raise CeilingError(
                f"there is no memory for a prompt of {prompt_tokens:,} tokens: the ceiling for keys and "
                f"values is {self.options.memory_bytes:,} bytes, which hold {held:,} tokens of one prompt "
                f"(the context would allow {allowed:,})",
                "shorten the prompt, or give more memory when the model is opened (memory=, --memory)",
            )

    # ------------------------------------------------------------------ the step

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._arrivals or self.scheduler.waiting or self.scheduler.live)

    def step(self) -> None:
        """Advance every sequence that fits: one forward. A sequence that fails ends alone."""
        with self._step_lock:
            self._settle()
            self.scheduler.admit()
            began, drafting = time.perf_counter(), len(self.scheduler.decoding)
            plan = self.scheduler.plan(self._draft(self._draft_depth(drafting)))
            hits, trials = self._totals["hits"], self._totals["trials"]
            if not plan and self.scheduler.live:
                self._fail(self.scheduler.live[0], CapacityError("no pages left for the only live sequence"))
            for rows, result in self._forward(plan):
                if isinstance(result, Logits):
                    self._accept(rows, result)
                else:
                    self._fail(rows.sequence, result)
            self._totals["steps"] += 1
            if plan and len(plan) == drafting:  # nobody read a prompt: what it took, decoding took
                hits, trials = self._totals["hits"] - hits, self._totals["trials"] - trials
                longest = max(len(rows.drafted) for rows in plan)
                self._depth.observe(drafting, longest, time.perf_counter() - began, hits, trials)
            self._settle()
        self._reap()

    def _settle(self) -> None:
        """Take in what arrived and let go of what was cancelled; under the step lock."""
        while self._arrivals:
            self.scheduler.waiting.append(self._arrivals.popleft())
        while self._cancels:
            sequence = self._cancels.popleft()
            if not sequence.is_finished:
                self._finish(sequence, "cancelled")

    def _reap(self) -> None:
        """Settle cancels unless a step is running: that step looks again after letting go of the lock."""
        while self._cancels and self._step_lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._step_lock.release()

    def _draft_depth(self, sequences: int) -> int:
        options = self.options
        return self._depth.choose(sequences) if options.adapt_depth else options.draft_tokens

    def _draft(self, depth: int) -> dict[Sequence, list[int]]:
        wants = self.scheduler.draft_wants(depth)
        if not wants:
            return {}
        try:
            guesses = self._drafter.propose(wants, self._draft_forward)
        except Exception:  # a drafter may only cost speed
            self._totals["draft_failures"] += 1
            return {}
        drafts = {}
        for (sequence, k), guess in zip(wants, guesses, strict=False):
            bad = (i for i, t in enumerate(guess) if not 0 <= t < self.spec.vocab_size)
            drafts[sequence] = list(guess[: min(k, next(bad, k))])
        return drafts

    def _draft_forward(
        self, sequences: Listing[Sequence], token_ids: Listing[int], hidden_TD: Floats
    ) -> Logits:
        return self._backend.forward(draft_batch(sequences, token_ids, hidden_TD, self.pages, self._cache))

    def _forward(self, plan: list[Rows]) -> list[tuple[Rows, Logits | Exception]]:
        """Run the plan; if the batch fails, each sequence alone, to find whose fault it is."""
        if not plan:
            return []
        now = time.perf_counter()
        for rows in plan:
            if rows.sequence.started_s is None:
                rows.sequence.started_s = now
        pooling = [rows for rows in plan if rows.sequence.pooled is not None]
        if pooling and len(pooling) < len(plan):  # a forward of their own: nobody wants their logits
            rest = [rows for rows in plan if rows.sequence.pooled is None]
            return self._forward(rest) + self._forward(pooling)
        batch = make_batch(
            plan,
            self.pages,
            self._cache,
            want_hidden=self._drafter.needs_hidden or bool(pooling),
            want_logits=not pooling,
        )
        try:
            logits = self._backend.forward(batch)
        except Exception as error:
            if len(plan) > 1:
                return [pair for rows in plan for pair in self._forward([rows])]
            if isinstance(error, GemsteadError):
                return [(plan[0], error)]
            wrapped = BackendError(f"the backend failed on this sequence: {type(error).__name__}: {error}")
            wrapped.__cause__ = error
            return [(plan[0], wrapped)]
        self._totals["rows"] += len(batch.token_ids)
        return list(split_logits(plan, logits))

    # ------------------------------------------------------------------ accepting

    def _accept(self, rows: Rows, logits: Logits) -> None:
        """Keep the longest agreeing run of drafts plus one token; advance the pages to match."""
        sequence = rows.sequence
        if sequence.is_finished:
            return
        if sequence.scores is not None:
            sequence.scores.append(logits.values_RV.copy())
        if sequence.pooled is not None and logits.hidden_RD is not None:
            sequence.pooled += logits.hidden_RD[self._skipped(rows) :].sum(axis=0, dtype=np.float64)
        cached = rows.position + rows.count
        try:
            if rows.reaches_end:
                cached += self._take(rows, logits)
        except Exception as error:  # a constraint, or logits that are not numbers: this sequence's own
            self._fail(sequence, error)
            return
        sequence.n_cached = cached
        self.pages.advance(sequence.table, sequence.ids, cached)
        if sequence.is_finished:
            self._retire(sequence)

    def _skipped(self, rows: Rows) -> int:
        """Rows left out of the mean: the token that begins every text says nothing about this one."""
        ids = rows.sequence.ids
        return int(rows.position == 0 and len(ids) > 1 and ids[0] == self.spec.tokens.bos)

    def _take(self, rows: Rows, logits: Logits) -> int:
        """Choose tokens row by row while the drafts agree; the number of drafts kept."""
        sequence = rows.sequence
        if sequence.room <= 0:
            sequence.finish_reason = "length"
            return 0
        first = logits.values_RV.shape[0] - 1 - len(rows.drafted)
        kept = 0
        for row, drafted in zip(
            range(first, first + 1 + len(rows.drafted)), (*rows.drafted, -1), strict=True
        ):
            constraint = sequence.constraint
            mask = None if constraint is None else constraint.mask()
            token_id, logprob = sequence.sampler.choose(logits.values_RV[row], sequence.num_generated, mask)
            if constraint is not None:
                constraint.accept(token_id)
            sequence.append(token_id, logprob)
            if sequence.is_finished or token_id != drafted:
                break
            kept += 1
        if logits.hidden_RD is not None:
            sequence.hidden = logits.hidden_RD[first + kept].copy()
        sequence.drafted_tokens += len(rows.drafted)
        sequence.accepted_tokens += kept
        self._totals["hits"] += kept
        self._totals["trials"] += kept + (kept < len(rows.drafted))
        return kept

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        if sequence.is_finished:
            return
        sequence.error = error
        self._totals["failed"] += 1
        self._finish(sequence, "error")

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish_reason = reason
        self._retire(sequence)

    def _retire(self, sequence: Sequence) -> None:
        self.scheduler.remove(sequence)
        sequence.hidden = None
        self._totals["generated"] += sequence.num_generated
        self._totals["cached"] += sequence.cached_tokens
        self._totals["drafted"] += sequence.drafted_tokens
        self._totals["accepted"] += sequence.accepted_tokens

    def park(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Put kept prefixes on disk too, where there is a folder for them and as long as `wanted()`."""
        with self._step_lock:
            self.pages.park(wanted)
        self._reap()

    def close(self) -> None:
        """Cancel everything, park what may be wanted again. The backend stays open; it is its owner's."""
        with self._step_lock:
            self._settle()
            for sequence in [*self.scheduler.live, *self.scheduler.waiting]:
                self._finish(sequence, "cancelled")
            self.pages.park()

    # ------------------------------------------------------------------ looking in

    def stats(self) -> EngineStats:
        """Totals (of finished sequences, for tokens) and the present state."""
        t, pools = self._totals, self.pages.counts()
        return EngineStats(
            memory_bytes=self.options.memory_bytes,
            cache_bytes=self._cache.size_bytes,
            kept_bytes=sum(
                pool.kept * self.options.page_tokens * cost
                for pool, cost in zip(pools, self._can.kv_bytes_per_token, strict=True)
            ),
            weights_bytes=self._can.weights_bytes,
            pools=pools,
            live_sequences=len(self.scheduler.live),
            waiting_sequences=len(self.scheduler.waiting) + len(self._arrivals),
            steps=t["steps"],
            rows=t["rows"],
            cached_tokens=t["cached"],
            generated_tokens=t["generated"],
            drafted_tokens=t["drafted"],
            accepted_tokens=t["accepted"],
            preemptions=self.scheduler.preemptions,
            draft_failures=t["draft_failures"],
            failed_sequences=t["failed"],
        )
