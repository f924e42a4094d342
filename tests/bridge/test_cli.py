"""`gateway listen`: what it says of a request."""

from __future__ import annotations

import time

from gateway.bridge.dialects import DIALECTS
from gateway.bridge.signature import Signer, make_secret
from gateway.cli.listen import check


def signed(dialect: str, secret: str, body: bytes) -> dict[str, str]:
    headers = Signer(DIALECTS[dialect].scheme, [secret]).headers("msg_1", time.time(), body)
    return {"webhook-id": "msg_1", **{name.lower(): value for name, value in headers.items()}}


def test_listen_verifies_every_dialect() -> None:
    for dialect in DIALECTS.values():
        if dialect.scheme is None:
            continue
        secret, other = (make_secret(dialect.scheme, byte * 32) for byte in (b"a", b"b"))
        headers = signed(dialect.name, secret, b"{}")
        assert check(dialect, secret, headers, b"{}", time.time()) is None
        assert check(dialect, other, headers, b"{}", time.time())
        assert check(dialect, secret, headers, b"{ }", time.time())
        assert check(dialect, None, headers, b"{ }", time.time()) is None


def test_listen_says_which_dialect_a_request_looks_like() -> None:
    trunx = DIALECTS["trunx"].scheme
    assert trunx is not None
    secret = make_secret(trunx, b"a" * 32)
    wrong = check(DIALECTS["standard"], secret, signed("trunx", secret, b"{}"), b"{}", time.time())
    assert wrong is not None
    assert "trunx" in wrong
