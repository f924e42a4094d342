"""Handlers as the vendors print them, and a bridge that they accept."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import Endpoint, EndpointConfig, Secret
from gateway.bridge.render import Bodies, Request, Stationery
from gateway.bridge.signature import make_secret
from gateway.events.event import Event
from gateway.events.position import make_id
from tests.bridge import nodejs

DATA = '{"id":"msg_1","cost":1.0,"big":9007199254740993,"text":"ä\\u00e9","2":"b","1":"a"}'.encode()
OLD = 400.0


@contextmanager
def served(handler: str, **environment: str) -> Iterator[str]:
    """The printed handler under node; its base URL."""
    packages = nodejs.packages()
    node = shutil.which("node")
    assert node is not None
    # From a folder beside node_modules, so that require finds express.
    host = packages / "host.cjs"
    host.write_bytes((nodejs.RECEIVERS / "host.cjs").read_bytes())
    process = subprocess.Popen(
        [node, host, nodejs.RECEIVERS / handler],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("port "), line
        yield f"http://127.0.0.1:{line.split()[1]}"
    finally:
        process.kill()
        process.communicate()


def request(dialect: str, secret: str, url: str, *, now: float | None = None, type: str = "call.ended") -> Request:
    """What the bridge would send."""
    config = EndpointConfig(url=url, dialect=dialect)
    secrets = () if DIALECTS[dialect].scheme is None else (Secret(secret),)
    stationery = Stationery(Endpoint("whk_1", config, secrets, 0, 0), Bodies(), "test")
    event = Event(make_id(int(time.time() * 1000)), "events", type, "call", "cust_1", None, DATA)
    return stationery.request(event, 1, url, time.time() if now is None else now)


def post(url: str, sent: Request) -> int:
    return httpx.post(url, content=sent.body, headers=sent.headers, timeout=20).status_code


SECRET, OTHER = "whsec_aBcDeFgHiJkLmNoPqRsTuVwXyZ", "whsec_zBcDeFgHiJkLmNoPqRsTuVwXyZ"


@pytest.mark.parametrize(
    ("handler", "dialect", "path", "variable", "checks_time"),
    [
        ("trunx.js", "trunx", "/webhooks/trunx", "WEBHOOK_SECRET", False),
        ("truedy.ts", "truedy", "/webhooks/truedy", "TRUEDY_WEBHOOK_SECRET", True),
        ("telnyx_hmac.cjs", "telnyx-hmac", "/webhooks/telnyx", "TELNYX_PUBLIC_KEY", True),
        ("telnyx_hmac_complete.cjs", "telnyx-hmac", "/webhooks/telnyx", "TELNYX_PUBLIC_KEY", False),
    ],
)
def test_printed_javascript(handler: str, dialect: str, path: str, variable: str, checks_time: bool) -> None:
    with served(handler, **{variable: SECRET}) as base:
        url = base + path
        right = request(dialect, SECRET, url)
        assert post(url, right) in (200, 204)
        assert post(url, right._replace(body=right.body.replace(b"msg_1", b"msg_2"))) == 401
        assert post(url, request(dialect, OTHER, url)) == 401
        if checks_time:
            assert post(url, request(dialect, SECRET, url, now=time.time() - OLD)) == 401


def test_printed_javascript_of_tryvox() -> None:
    with served("tryvox.cjs") as base:
        for path in ("/answer", "/status"):
            assert post(base + path, request("tryvox", "", base + path)) == 200


def printed(name: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec((nodejs.RECEIVERS / name).read_text(), namespace)
    return namespace


def test_printed_python_of_trunx() -> None:
    check = printed("trunx.py.txt")["verify_webhook"]
    sent = request("trunx", SECRET, "https://x.example/")
    signature = sent.headers["X-Trunx-Signature"]
    assert check(sent.body, signature, SECRET)
    assert not check(sent.body + b" ", signature, SECRET)
    assert not check(sent.body, signature, OTHER)


def test_printed_python_of_telnyx() -> None:
    check = printed("telnyx_hmac.py.txt")["verify_webhook"]

    def accepts(sent: Request, secret: str = SECRET) -> bool:
        headers = sent.headers
        return bool(check(sent.body.decode(), headers["telnyx-signature-ed25519"], headers["telnyx-timestamp"], secret))

    sent = request("telnyx-hmac", SECRET, "https://x.example/")
    assert accepts(sent)
    assert not accepts(sent, OTHER)
    assert not accepts(sent._replace(body=sent.body.replace(b"msg_1", b"msg_2")))
    assert not accepts(request("telnyx-hmac", SECRET, "https://x.example/", now=time.time() - OLD))


def test_made_secrets_are_keys_of_their_dialects() -> None:
    for dialect in DIALECTS.values():
        if dialect.scheme is not None:
            sent = request(dialect.name, make_secret(dialect.scheme, b"s" * 32), "https://x.example/")
            assert dialect.scheme.signature_header in sent.headers
            assert "." not in sent.headers["webhook-id"]
