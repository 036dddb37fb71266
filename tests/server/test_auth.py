"""Keys, hosts, origins and places, as functions and against a real server."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from gemstead.errors import ConfigError
from gemstead.server.auth import Access, Caller, is_loopback, new_key
from gemstead.server.refusals import Refusal

KEY, ADMIN = "user-key-0123456789", "admin-key-0123456789"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.org", False)],
)  # fmt: skip
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def test_rights():
    access = Access((KEY, "other-key-0123456789"), (ADMIN,))
    assert access.caller_of({"authorization": f"Bearer {KEY}"}).right == "user"
    assert access.caller_of({"x-api-key": "other-key-0123456789"}).right == "user"
    assert access.caller_of({"authorization": f"bearer {ADMIN}"}).right == "admin"
    assert Access().caller_of({}) == Caller("admin")
    salts = {access.caller_of({"x-api-key": key}).salt for key in (*access.keys, *access.admin_keys)}
    assert len(salts) == 3
    for headers in (
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {KEY}"},
        {"x-api-key": KEY[:-1]},
    ):
        with pytest.raises(Refusal) as caught:
            access.caller_of(headers)
        assert caught.value.status == 401
        assert KEY[:-1] not in caught.value.message


def test_keys_are_long_and_plain():
    assert len(new_key()) > 30
    assert new_key() != new_key()
    for bad in ("short", "with space 0123456789", "é" * 20, ""):
        with pytest.raises(ConfigError):
            Access((bad,))


def test_elsewhere_needs_a_key():
    Access().check_place("127.0.0.1")
    Access((KEY,)).check_place("0.0.0.0")
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 needs a key"):
        Access().check_place("0.0.0.0")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:4114", "localhost", "localhost:1", "[::1]:4114", "10.0.0.7:80", "box:4114"]
)
def test_known_hosts(host):
    Access(hosts=("box",)).check_host(host)


@pytest.mark.parametrize(
    "host", [None, "", "evil.example:4114", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_rebound_hosts_are_refused(host):
    with pytest.raises(Refusal) as caught:
        Access(hosts=("box",)).check_host(host)
    assert caught.value.status == 403


def test_origins():
    access = Access(origins=("http://app.example",))
    assert access.check_origin(None, "localhost:1") is False
    assert access.check_origin("http://localhost:1", "localhost:1") is False
    assert access.check_origin("http://app.example", "localhost:1") is True
    for origin in ("http://evil.example", "null", "http://localhost:2", ""):
        with pytest.raises(Refusal):
            access.check_origin(origin, "localhost:1")


# ------------------------------------------------------------------ a real server


def test_requests_without_a_key_or_with_a_wrong_host_reach_nothing(server):
    assert server.get("/v1/models", key=None)[0] == 401
    assert server.get("/v1/models", key="wrong-key-0123456789")[0] == 401
    status, value = server.get("/v1/models", Host="evil.example")
    assert (status, value["error"]["code"]) == (403, "wrong_host")
    assert server.get("/health", key=None)[0] == 200
    assert server.get("/health", key=None, Host="evil.example")[0] == 403


def test_only_an_admin_sees_figures_or_stops(server):
    for method, path in (("GET", "/metrics"), ("GET", "/gemstead/status"), ("POST", "/gemstead/stop")):
        assert server.request(method, path)[0] == 403
    assert server.get("/metrics", key=ADMIN)[0] == 200


def test_pages_of_other_origins(fresh):
    running = fresh("--allow-origin", "http://app.example")
    status, _, headers = running.request("GET", "/v1/models", Origin="http://app.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "http://app.example")
    status, _, headers = running.request("OPTIONS", "/v1/models", Origin="http://app.example")
    assert status == 204
    status, _, headers = running.request("GET", "/v1/models", Origin="http://evil.example")
    assert status == 403
    assert "access-control-allow-origin" not in headers


def test_a_key_is_made_and_shown_once_where_others_can_reach():
    process = subprocess.Popen(
        [sys.executable, "-m", "gemstead", "serve", "--host", "0.0.0.0", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        key = process.stdout.readline().strip()
        assert key.startswith("gem-")
    finally:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert key not in err


def test_a_taken_port_is_told_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "gemstead", "serve", "--port", port],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr
