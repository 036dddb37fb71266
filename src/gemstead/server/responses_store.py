"""Stored responses: what a later request may go on from, in SQLite, bounded, each owner's apart.

In memory unless a file was named. The oldest go when there are too many bytes. Neighbours: responses.py.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from gemstead.errors import ConfigError

MAX_STORED_BYTES = 64 << 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, owner BLOB NOT NULL,
    previous TEXT, items TEXT NOT NULL, response TEXT NOT NULL, bytes INTEGER NOT NULL
)
"""
# A response and all before it, the first first. A previous one is always older: nothing goes round.
_CHAIN = """
WITH RECURSIVE chain(number, items, previous) AS (
    SELECT number, items, previous FROM responses WHERE id = ? AND owner = ?
    UNION ALL
    SELECT r.number, r.items, r.previous FROM responses r JOIN chain c
    ON r.id = c.previous AND r.owner = ? AND r.number < c.number
)
SELECT items, previous FROM chain ORDER BY number
"""


class ResponseStore:
    """Responses by id. Safe from several threads; what `add` returned from is on disk."""

    def __init__(self, path: Path | None = None, max_bytes: int = MAX_STORED_BYTES) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        try:
            if path is not None:
                path.touch(0o600)  # a new file is for its owner's eyes: it holds what was said
            self._database = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None
            )
            self._database.execute(_SCHEMA)
            self._bytes = int(self._database.execute("SELECT TOTAL(bytes) FROM responses").fetchone()[0])
        except (OSError, sqlite3.Error) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"--store {path}: responses cannot be kept there ({why}); give a file that a gemstead server "
                "wrote, or a new one in a folder with room"
            ) from error

    @property
    def bytes_held(self) -> int:
        """What the stored texts take."""
        return self._bytes

    def add(self, owner: bytes, response: dict[str, Any], items: list[Any], previous: str | None) -> None:
        """Keep a response and the items (input and output) it adds to the conversation."""
        texts = json.dumps(items), json.dumps(response)
        size = sum(map(len, texts))
        with self._lock:
            self._database.execute(
                "INSERT INTO responses (id, owner, previous, items, response, bytes) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (response["id"], owner, previous, *texts, size),
            )
            self._bytes += size
            while self._bytes > self._max_bytes:
                number, freed = self._database.execute(
                    "SELECT number, bytes FROM responses ORDER BY number LIMIT 1"
                ).fetchone()
                self._database.execute("DELETE FROM responses WHERE number = ?", (number,))
                self._bytes -= freed

    def get(self, owner: bytes, response_id: str) -> dict[str, Any] | None:
        """A response of that owner."""
        with self._lock:
            row = self._database.execute(
                "SELECT response FROM responses WHERE id = ? AND owner = ?", (response_id, owner)
            ).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def conversation(self, owner: bytes, response_id: str) -> list[Any] | None:
        """All items up to a response, from the first; None where any of it is not there (any more)."""
        with self._lock:
            rows = self._database.execute(_CHAIN, (response_id, owner, owner)).fetchall()
        if not rows or rows[0][1] is not None:
            return None
        return [item for items, _ in rows for item in json.loads(items)]

    def remove(self, owner: bytes, response_id: str) -> bool:
        """Forget a response; whether it was there."""
        with self._lock:
            freed = self._database.execute(
                "DELETE FROM responses WHERE id = ? AND owner = ? RETURNING bytes", (response_id, owner)
            ).fetchall()
            self._bytes -= sum(size for (size,) in freed)
        return bool(freed)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
