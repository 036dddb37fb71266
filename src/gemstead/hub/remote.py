"""Asks a Hugging Face hub: what a repository holds, and the bytes of one file from a given place on.

The only module that knows huggingface_hub, which it imports late: its client brings proxies and tokens.
Every failure becomes a HubError in plain words; Temporary ones are worth another try. Neighbour: fetch.py.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gemstead.errors import HubError
from gemstead.hub.choose import RemoteFile
from gemstead.hub.folders import require_network

ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 20.0  # without a byte; HF_HUB_DOWNLOAD_TIMEOUT sets another


class Temporary(HubError):  # noqa: N818  not every one becomes an error
    """The hub or the way to it failed in a manner that may pass; `wait_s` is how long it asks to wait."""

    def __init__(self, message: str, wait_s: float | None = None, *, is_nameless: bool = False) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.is_nameless = is_nameless  # the hub's name is not known: there is no network at all


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit."""

    repo: str
    commit: str
    files: list[RemoteFile]


class Hub:
    """One hub. Safe to use from several threads."""

    def __init__(self, timeout_s: float | None = None) -> None:
        require_network("downloading")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # its user agent would list installed packages
        import huggingface_hub
        from huggingface_hub import errors, utils

        self._client: Any = huggingface_hub
        self._errors: Any = errors
        self._utils: Any = utils
        self.endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        asked = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "")
        self.timeout_s = timeout_s or (float(asked) if asked.isdigit() and int(asked) else TIMEOUT_S)

    def listing(self, repo: str, revision: str) -> Listing:
        """The files of a repository at a branch, tag or commit."""
        with self._plain_errors(repo):
            api = self._client.HfApi(endpoint=self.endpoint)
            info = api.model_info(repo, revision=revision, files_metadata=True, timeout=self.timeout_s)
        files = [
            RemoteFile(
                entry.rfilename,
                entry.size or 0,
                entry.lfs.sha256 if entry.lfs else None,
                entry.blob_id or None,
            )
            for entry in info.siblings or []
        ]
        if not info.sha or not files:
            raise HubError(f"{self.endpoint} knows {repo} but lists no files in it; check HF_ENDPOINT")
        return Listing(info.id or repo, info.sha, files)

    @contextmanager
    def read(self, repo: str, commit: str, path: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Where the bytes begin (`start`, or 0 where the server ignores that), and the bytes in pieces."""
        url = self._client.hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
        headers = self._utils.build_hf_headers(library_name="gemstead")
        headers["Accept-Encoding"] = "identity"  # the bytes themselves, so that they can be counted
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._plain_errors(repo):
            session = self._client.get_session()
            with session.stream(
                "GET", url, headers=headers, timeout=self.timeout_s, follow_redirects=True
            ) as response:
                if response.status_code != 416:  # the part is longer than the file: begin anew
                    self._utils.hf_raise_for_status(response)
                begins = (
                    _begins(response.headers.get("Content-Range", "")) if response.status_code == 206 else 0
                )
                if response.status_code == 416 or begins not in (0, start):
                    raise Temporary(f"{url} answered with other bytes than asked for")
                yield begins, response.iter_raw()  # as they arrive: a cut loses nothing

    @contextmanager
    def _plain_errors(self, repo: str) -> Iterator[None]:
        """Turn what the client raises into HubErrors."""
        try:
            yield
        except self._errors.GatedRepoError as error:
            raise HubError(
                f"{repo} is gated: its owner wants you to accept a licence first. Open "
                f"{self.endpoint}/{repo} in a browser, log in and accept; then make a token under Settings, "
                "Access Tokens, and run this again with HF_TOKEN=that-token in front"
            ) from error
        except self._errors.RevisionNotFoundError as error:
            raise HubError(f"{repo} has no such branch, tag or commit") from error
        except self._errors.RepositoryNotFoundError as error:
            raise HubError(
                f"{self.endpoint} has no model {repo}, or it is private; check the spelling, and for a "
                "private one set HF_TOKEN to a token that may read it"
            ) from error
        except self._errors.HfHubHTTPError as error:
            raise self._by_status(repo, error) from error
        except self._errors.HTTPError as error:
            why = str(error).strip() or type(error).__name__
            raise Temporary(
                f"{self.endpoint} cannot be reached or fell silent ({why}); check the network, and the proxy "
                "if you need one (HTTPS_PROXY)",
                is_nameless=_is_nameless(error),
            ) from error
        except self._errors.OfflineModeIsEnabled as error:
            raise HubError(f"fetching {repo} needs the network, and HF_HUB_OFFLINE forbids it") from error

    def _by_status(self, repo: str, error: Any) -> HubError:
        status = error.response.status_code
        if status == 401:
            return HubError(
                f"{self.endpoint} does not accept the token in HF_TOKEN for {repo}; make a new one"
            )
        if status == 403:
            return HubError(
                f"{self.endpoint} forbids reading {repo} with this token; ask its owner for access"
            )
        if status == 404:
            return HubError(f"{repo} no longer holds this file; run the same command again")
        asked = error.response.headers.get("Retry-After", "")
        wait_s = float(asked) if asked.isdigit() else None
        if status == 429:
            return Temporary(f"{self.endpoint} has had too many requests from this network for now", wait_s)
        if status >= 500 or status == 408:
            return Temporary(
                f"{self.endpoint} has trouble of its own (HTTP {status}); try again later", wait_s
            )
        return HubError(f"{self.endpoint} answered HTTP {status} for {repo}: {error.server_message or error}")


def _is_nameless(error: BaseException | None) -> bool:
    """Whether the system could not find the address of a name."""
    while error is not None and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    return error is not None


def _begins(content_range: str) -> int:
    """The first byte of 'bytes 100-199/200'; -1 when that cannot be read."""
    first = content_range.removeprefix("bytes ").split("-")[0]
    return int(first) if first.isdigit() else -1
