"""Every error gemstead raises on purpose, as one tree.

    GemsteadError
    ├── ConfigError        a setting, flag or model description is wrong or contradictory
    ├── WeightsError       a weight file is damaged, hostile, incomplete or of another kind
    ├── InputError         a request is wrong: message, tool, sampling value        (HTTP 400)
    ├── CapacityError      right request, but no room: memory, context, queue       (HTTP 413/429/503)
    │   ├── ContextError   the conversation is longer than the context       (HTTP 400)
    │   └── CeilingError   it fits the context, but not the memory even alone  (HTTP 413)
    ├── BackendError       a backend is missing or failed while computing
    ├── HubError           a model cannot be named, fetched, checked, shared or removed
    └── RequestCancelled   the caller stopped the request; not a failure

A message says what was attempted, the value seen, the values allowed and what to do next.
"""

import os


class GemsteadError(Exception):
    """Root of the tree; catching it catches every deliberate error and no bug."""


class ConfigError(GemsteadError):
    """A setting, flag or model description is wrong or contradicts itself."""


class WeightsError(GemsteadError):
    """A weight file is damaged, hostile, incomplete or of a kind gemstead does not read."""


class InputError(GemsteadError):
    """A request cannot be served as written; the caller can mend it (HTTP 400)."""


class CapacityError(GemsteadError):
    """The request is fine but there is no room for it here (HTTP 413, 429 or 503).

    `advice` is for whoever opened the model; a server gives its clients another beside what was `seen`.
    """

    def __init__(self, seen: str = "", advice: str = "") -> None:
        super().__init__(f"{seen}; {advice}" if advice else seen)
        self.seen = seen


class ContextError(CapacityError):
    """The conversation is longer than the context; a shorter one fits (HTTP 400)."""


class CeilingError(CapacityError):
    """The conversation alone needs more than all memory for K/V; waiting would not help (HTTP 413)."""


class BackendError(GemsteadError):
    """A backend is not available or failed while computing."""


class HubError(GemsteadError):
    """A model cannot be named, fetched, checked, shared or removed: network, access, hash, disk."""


class RequestCancelled(GemsteadError):  # noqa: N818  not an error
    """The caller stopped this request; no event follows."""


def os_sentence(error: OSError) -> str:
    """What the system refused, without its number: 'notes.json: no such file or directory'."""
    if error.strerror is None:
        return str(error)
    why = error.strerror[:1].lower() + error.strerror[1:]
    return why if error.filename is None else f"{os.fsdecode(error.filename)}: {why}"
