"""The OpenAPI document: all routes and fields, as written down, valid to strangers' tools."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from gemstead.server import openai
from gemstead.server.app import make_app
from gemstead.server.fields import schema_of
from gemstead.server.openapi import OPERATIONS, PATH, document


def test_every_route_is_in_it_and_nothing_else(server):
    served = server.get(PATH)[1]
    assert served == document()
    nobody = MagicMock()  # nothing behind the routes is asked before a request comes
    guard = make_app(nobody, nobody, nobody, nobody, nobody)
    routes = {
        (route.path.replace(":path", ""), method.lower())
        for route in guard.app.routes
        for method in route.methods
    }
    assert {(path, method) for path, method in routes if method != "head"} == {
        (operation.path, operation.method) for operation in OPERATIONS
    }


def test_the_tables_are_the_schemas():
    body = document()["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    refused = {name for name, field in openai.CHAT.items() if field.check.schema is None}
    assert set(body["schema"]["properties"]) == set(openai.CHAT) - refused
    assert "audio" in refused
    assert body["schema"]["required"] == ["model", "messages"]
    assert schema_of({"n": openai.CHAT["n"]})["properties"]["n"]["type"] == ["integer", "null"]


def test_a_stranger_finds_it_valid():
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="openapi-spec-validator: the extra 'clients'"
    )
    validator.validate(document())
