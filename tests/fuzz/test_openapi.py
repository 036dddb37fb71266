"""schemathesis over the OpenAPI document, against a real server: no 5xx, no hang, errors of the right shape.

The model's name is pinned to one that is served, so that what comes after it is reached too.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

from gemstead.server.openapi import document
from support.serving import ADMIN, end, start

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis: the extra 'clients'")
from schemathesis import checks  # noqa: E402

STOP = "/gemstead/stop"
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
SLOWEST_S = 60  # of one request, sixteen answers up to the end of the context among them


def pinned() -> dict:
    """The document with the model's name, and without the way to stop the server."""
    whole = document()
    del whole["paths"][STOP]
    for operations in whole["paths"].values():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            properties = body.get("schema", {}).get("properties", {})
            if "model" in properties:
                properties["model"] = {"enum": ["pebble"]}
    return whole


@pytest.fixture(scope="module")
def small():
    """A server whose answers are short, because its context is."""
    running = start("--context", "256")
    yield running
    assert running.wait_idle(60)["answers"] == 0
    assert end(running) == 0


schema = schemathesis.openapi.from_dict(pinned())


@schema.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_whatever_is_sent(case, small):
    headers = {"Authorization": f"Bearer {ADMIN}"}
    response = case.call(base_url=small.url, headers=headers, timeout=SLOWEST_S)
    case.validate_response(response, checks=CHECKS)
