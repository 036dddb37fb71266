"""Asks a running server about itself, for `gemstead ps` and `gemstead stop`; loopback HTTP and no more.

Knows the paths of control.py. Refuses nothing; says in one line what the server said.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

from gemstead.errors import ConfigError, GemsteadError, os_sentence

TIMEOUT_S = 10.0


def ask(method: str, path: str, host: str, port: int, key: str | None) -> dict[str, Any]:
    """The JSON object a running server answers with. ConfigError where none listens or the key is wrong."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        value = json.loads(response.read())
    except OSError as error:
        raise ConfigError(
            f"no server answers at {host} port {port} ({os_sentence(error)}); "
            "start one with gemstead serve, or say --port"
        ) from error
    except (ValueError, http.client.HTTPException) as error:
        raise ConfigError(f"what listens at {host} port {port} is no gemstead server") from error
    finally:
        connection.close()
    if response.status != 200:
        said = value.get("error", {}).get("message", "") if isinstance(value, dict) else ""
        raise GemsteadError(f"the server at {host} port {port} refused ({response.status}): {said}")
    if not isinstance(value, dict):
        raise ConfigError(f"what listens at {host} port {port} is no gemstead server")
    return value
