"""JSON Web Tokens as credentials (RFC 7519, under the rules of RFC 8725).

The algorithm belongs to the key, never to the token: HS256 is tried with the secret alone and RS256, ES256 and EdDSA
with public keys of their own type alone, so that a public key cannot be passed off as an HMAC secret.  Of the token's
header only ``alg`` and ``kid`` are read; ``jku``, ``jwk`` and ``x5u`` are of no account, and ``crit`` is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import jwt
import orjson

from gateway.access.principal import Principal, make_principal, texts
from gateway.access.verifykey import VerifyKey

MAX_TOKEN: Final = 8192
"""Characters. Longer ones are refused unread: parsing costs more than sending."""
_MEMO = 10_000
_UNSIGNED = "the token is not signed by a known key"
Known = tuple[float | None, float | None, Principal]
"""(not before, expires at, whom), in Unix seconds, with the leeway taken into account."""
_OPTIONS: Final[Any] = {
    "verify_exp": False,  # ours, below: the clock comes by constructor
    "verify_nbf": False,
    "verify_iat": False,
    "strict_aud": False,
}


class BadToken(Exception):
    """The token authenticates nobody. The message is for the client, and quotes nothing of the token."""


class KeySource(Protocol):
    """Public keys that may change: `generation` differs when they did."""

    @property
    def generation(self) -> int: ...
    def touch(self) -> None: ...
    def known(self, algorithm: str, kid: str | None) -> list[VerifyKey]: ...
    async def ask(self) -> None: ...
    def honours(self, signer: str) -> bool: ...


class JwtVerifier:
    """Checks tokens against fixed `keys` and those of `source`; `now` is Unix time in seconds.

    With no `issuer` any will do; with no `audience` a token that names one is refused (RFC 7519, section 4.1.3).
    """

    def __init__(
        self,
        keys: tuple[VerifyKey, ...],
        source: KeySource | None,
        *,
        issuer: str | None,
        audience: str | None,
        leeway: float,
        now: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._source = source
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._now = now
        self._generation = 0
        # A storm of reconnects brings the same tokens again. Kept by digest; only good ones; gone when the keys change.
        self._memo: dict[bytes, Known] = {}
        self._unsigned: tuple[bytes, list[VerifyKey]] | None = None
        """Digest of the last token that none of these keys had signed: whoever answers a bad one looks at it twice."""

    def __repr__(self) -> str:
        return f"<JwtVerifier {len(self._keys)} keys{' and a key set' if self._source else ''}>"

    async def verify(self, token: str) -> Principal:
        """Whom `token` authenticates. Raises `BadToken`."""
        try:
            return self.recall(token)
        except LookupError:
            assert self._source is not None
            await self._source.ask()
        try:
            return self.recall(token)
        except LookupError:
            raise BadToken(_UNSIGNED) from None

    def recall(self, token: str) -> Principal:
        """As `verify`, with the keys at hand. Raises `LookupError` when the key set has to be asked for its own."""
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        if self._source is not None:
            self._source.touch()
            self._forget_old_keys()
        digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        known = self._memo.get(digest)
        if known is None:
            known = self._read(token, digest)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[digest] = known
        not_before, expires_at, principal = known
        self._check_time(not_before, expires_at)
        return principal

    def touch(self) -> None:
        """Notice the passing of time: the key set may be old."""
        if self._source is not None:
            self._source.touch()

    def honours(self, principal: Principal) -> bool:
        """Whether the key that signed for `principal` still counts: a rotation may have taken it away."""
        return principal.signer is None or self._source is None or self._source.honours(principal.signer)

    def _forget_old_keys(self) -> None:
        assert self._source is not None
        if self._source.generation != self._generation:
            self._generation = self._source.generation
            self._memo.clear()

    def _check_time(self, not_before: float | None, expires_at: float | None) -> None:
        now = self._now()
        if expires_at is not None and now >= expires_at:
            raise BadToken("the token has expired")
        if not_before is not None and now < not_before:
            raise BadToken("the token is not valid yet")

    def _read(self, token: str, digest: bytes) -> Known:
        candidates = self._candidates(*_read_header(token))
        if self._unsigned == (digest, candidates):
            raise BadToken(_UNSIGNED)
        for key in candidates:
            claims = self._claims(token, key)
            if claims is not None:
                not_before, expires_at, principal = _read_claims(claims, self._leeway)
                return not_before, expires_at, replace(principal, signer=key.signer)
        self._unsigned = digest, candidates
        raise BadToken(_UNSIGNED)

    def _claims(self, token: str, key: VerifyKey) -> Mapping[str, Any] | None:
        """What the token says, None when it is not `key` that signed it. Raises `BadToken`."""
        try:
            return jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options=_OPTIONS,
            )
        except jwt.InvalidSignatureError:
            return None
        except jwt.MissingRequiredClaimError as error:
            raise BadToken(f"the token has no {error.claim}") from None
        except jwt.InvalidIssuerError:
            raise BadToken("the token is from another issuer") from None
        except jwt.InvalidAudienceError:
            raise BadToken("the token is for another audience") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise BadToken("the token is malformed") from None

    def _candidates(self, algorithm: str, kid: str | None) -> list[VerifyKey]:
        found = [key for key in self._keys if key.algorithm == algorithm]
        if self._source is not None and algorithm != "HS256":
            found += self._source.known(algorithm, kid)
        return found


def _read_header(token: str) -> tuple[str, str | None]:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise BadToken("the token is malformed") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if "crit" in header or "b64" in header or not isinstance(algorithm, str):
        raise BadToken("the token is malformed")
    if not (kid is None or isinstance(kid, str)):
        raise BadToken("the token is malformed")
    return algorithm, kid


def _read_claims(claims: Mapping[str, Any], leeway: float) -> Known:
    try:
        starts = [moment for moment in (_moment(claims, "nbf"), _moment(claims, "iat")) if moment is not None]
        expires_at = _moment(claims, "exp")
        if expires_at is not None:
            expires_at += leeway
        identity = "jwt:" + orjson.dumps([claims.get("iss"), claims.get("sub")]).decode()
        scopes = texts(claims.get("scope", ""))
        principal = make_principal(identity, scopes, {**claims, "expires_at": expires_at})
    except (ValueError, TypeError) as error:
        # Only our own words: an error of the libraries could quote the token.
        detail = str(error) if type(error) is ValueError else "a claim is malformed"
        raise BadToken(f"the token's rights cannot be read: {detail}") from None
    return (max(starts) - leeway if starts else None), expires_at, principal


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError(f"{name} must be Unix time in seconds")
    return float(value)
