"""Signing secrets at rest: encrypted with AES-256-GCM when the gateway has a key, plain otherwise."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SEALED: Final = "aesgcm:"


class SecretUnreadable(ValueError):
    """The secret was sealed with another key, or with a key that this process does not have."""


class SecretBox:
    """Seals and opens secrets. `key` is any text with enough entropy; None leaves secrets as they are."""

    def __init__(self, key: str | None) -> None:
        self._cipher = None
        if key:
            self._cipher = AESGCM(HKDF(SHA256(), 32, None, b"gateway webhook secrets").derive(key.encode()))

    def seal(self, secret: str, owner: str) -> str:
        """`secret` for storing; it opens for the same `owner` only."""
        if self._cipher is None:
            return secret
        nonce = os.urandom(12)
        return _SEALED + b64encode(nonce + self._cipher.encrypt(nonce, secret.encode(), owner.encode())).decode()

    def open(self, stored: str, owner: str) -> str:
        """What `seal` was given. Raises `SecretUnreadable`."""
        if not stored.startswith(_SEALED):
            return stored
        if self._cipher is None:
            raise SecretUnreadable("the secret is encrypted, and GATEWAY_SECRET_KEY is not set")
        raw = b64decode(stored[len(_SEALED) :])
        try:
            return self._cipher.decrypt(raw[:12], raw[12:], owner.encode()).decode()
        except InvalidTag:
            raise SecretUnreadable("the secret was encrypted with another GATEWAY_SECRET_KEY") from None
