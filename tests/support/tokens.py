"""Credentials for tests: keys made in Redis, tokens signed with keys of the test's own."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.access.keys import KeyRecord, KeyStore
from gateway.backend.connection import connect

T = TypeVar("T")

SECRET = "0123456789abcdef0123456789abcdef-test"


async def with_store(url: str, act: Callable[[KeyStore], Awaitable[T]]) -> T:
    """Do something to the keys in the Redis at `url`."""
    client = connect(url, connections=1)
    try:
        return await act(KeyStore(client, time.time, os.urandom))
    finally:
        await client.aclose()


async def make_key(url: str, scopes: str = "subscribe", **rights: Any) -> tuple[KeyRecord, str]:
    """A key with these scopes (blanks between) and rights (`limits` too)."""
    limits = rights.pop("limits", None)
    return await with_store(url, lambda store: store.create("test", scopes.split(), rights, limits))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Signer:
    """A private key of one kind, its public halves, and tokens signed with it."""

    def __init__(self, algorithm: str, kid: str | None = None) -> None:
        makers: dict[str, Callable[[], Any]] = {
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }
        self.algorithm = algorithm
        self.kid = kid
        self.private = makers[algorithm]()

    @property
    def pem(self) -> str:
        public = self.private.public_key()
        return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())

    @property
    def jwk(self) -> dict[str, Any]:
        readers = {
            "RS256": jwt.algorithms.RSAAlgorithm,
            "ES256": jwt.algorithms.ECAlgorithm,
            "EdDSA": jwt.algorithms.OKPAlgorithm,
        }
        made: dict[str, Any] = json.loads(readers[self.algorithm].to_jwk(self.private.public_key()))
        return {**made, "use": "sig"} if self.kid is None else {**made, "use": "sig", "kid": self.kid}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        headers = {"kid": self.kid, **header} if self.kid is not None else header
        return jwt.encode(claims, self.private, self.algorithm, headers)


def hs256(claims: dict[str, Any], secret: str = SECRET, **header: Any) -> str:
    return jwt.encode(claims, secret, "HS256", header)


def forge(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
