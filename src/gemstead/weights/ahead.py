"""Work done a few pieces ahead of whoever takes the results, in order: packing, converting.

The pool is the caller's; nothing here loads one. Neighbours: quantize.py, backend/native/packing.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

Result = TypeVar("Result")


def in_order(pool: Executor, jobs: Iterable[Callable[[], Result]], ahead: int) -> Iterator[Result]:
    """The results of the jobs, at most `ahead` of them done or under way beyond the one that is taken.

    What has not begun when nobody takes any more, or a job fails, is not done.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
