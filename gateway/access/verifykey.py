"""A key that signatures are checked with, and the one algorithm that goes with its type."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

_MIN_RSA_BITS: Final = 2048
GOOD_SECRET: Final = 32
"""Bytes that an HMAC secret should have: as many as the hash (RFC 7518, section 3.2)."""
_READERS: Final[dict[str, Any]] = {
    "RSA": jwt.algorithms.RSAAlgorithm,
    "EC": jwt.algorithms.ECAlgorithm,
    "OKP": jwt.algorithms.OKPAlgorithm,
}


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """`algorithm` is one of HS256, RS256, ES256, EdDSA; `kid` is the name in a key set.

    `signer` is a digest of a key of a set, which its name is not: sets may give a name again.
    """

    algorithm: str
    material: Any = field(repr=False)
    kid: str | None = None
    signer: str | None = None


def secret_key(secret: str) -> VerifyKey:
    """An HMAC secret. Raises `ValueError` for a public key that was given by mistake."""
    raw = secret.encode()
    try:
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).prepare_key(raw)
    except jwt.InvalidKeyError:
        raise ValueError("is a public key or certificate, not a secret") from None
    # HMAC fills short keys with zeros itself (RFC 2104): the same key, of a length that PyJWT does not warn of.
    return VerifyKey("HS256", raw.ljust(GOOD_SECRET, b"\0"))


def pem_key(text: str) -> VerifyKey:
    """A public key or certificate in PEM; ``\\n`` for line ends is understood. Raises `ValueError`."""
    raw = text.replace("\\n", "\n").strip().encode()
    try:
        if b"BEGIN CERTIFICATE" in raw:
            material: Any = load_pem_x509_certificate(raw).public_key()
        else:
            material = load_pem_public_key(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("must be a public key in PEM, or the path of a file that holds one") from None
    return VerifyKey(_algorithm(material), material)


def jwk_key(jwk: Mapping[str, Any]) -> VerifyKey:
    """One member of a key set (RFC 7517). Raises `ValueError` for what cannot check one of our algorithms."""
    reader = _READERS.get(str(jwk.get("kty")))
    kid = jwk.get("kid")
    if reader is None or "d" in jwk or jwk.get("use", "sig") != "sig" or not (kid is None or isinstance(kid, str)):
        raise ValueError("not a public signature key")
    try:
        material = reader.from_jwk(dict(jwk))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"not a usable key: {type(error).__name__}") from None
    algorithm = _algorithm(material)
    if jwk.get("alg", algorithm) != algorithm:
        raise ValueError("a key for another algorithm")
    public = material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return VerifyKey(algorithm, material, kid, hashlib.sha256(public).hexdigest())


def _algorithm(material: Any) -> str:
    if isinstance(material, RSAPublicKey):
        if material.key_size < _MIN_RSA_BITS:
            raise ValueError(f"an RSA key must have at least {_MIN_RSA_BITS} bits")
        return "RS256"
    if isinstance(material, EllipticCurvePublicKey) and isinstance(material.curve, SECP256R1):
        return "ES256"
    if isinstance(material, Ed25519PublicKey):
        return "EdDSA"
    raise ValueError("must be an RSA, P-256 or Ed25519 public key")
