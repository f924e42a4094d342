"""Tokens: what is accepted, and every known way to be accepted wrongly."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.jwt import MAX_TOKEN, BadToken, JwtVerifier
from gateway.access.principal import Principal
from gateway.access.verifykey import VerifyKey, pem_key, secret_key
from tests.support.tokens import SECRET, Signer, forge, hs256

NOW = 1_700_000_000.0
CLAIMS = {"sub": "u1", "scope": "subscribe", "exp": NOW + 60}
SIGNERS = {name: Signer(name) for name in ("RS256", "ES256", "EdDSA")}


def verifier(*keys: VerifyKey, **options: Any) -> JwtVerifier:
    options = {"issuer": None, "audience": None, "leeway": 0.0, "now": lambda: NOW, **options}
    return JwtVerifier(keys or (secret_key(SECRET),), None, **options)


async def refused(token: str, *keys: VerifyKey, **options: Any) -> str:
    checker = verifier(*keys, **options)
    messages = []
    for _ in range(2):  # nothing bad may be remembered as good
        with pytest.raises(BadToken) as error:
            await checker.verify(token)
        messages.append(str(error.value))
    assert len(set(messages)) == 1
    return messages[0]


@pytest.mark.parametrize("algorithm", SIGNERS)
async def test_each_kind_of_key(algorithm: str) -> None:
    signer = SIGNERS[algorithm]
    claims = {**CLAIMS, "tenant": "t1", "channels": ["a", "b.*"], "types": "x y.*", "streams": "events,more"}
    principal = await verifier(pem_key(signer.pem)).verify(signer.sign(claims))
    assert principal.scopes == {"subscribe"} and principal.tenant == "t1" and principal.expires_at == NOW + 60
    assert principal.channels is not None and principal.channels.globs == ("a", "b.*")
    assert principal.types is not None and principal.types.globs == ("x", "y.*")
    assert principal.streams is not None and principal.streams.globs == ("events", "more")


async def test_secret_and_public_key_side_by_side() -> None:
    both = verifier(secret_key(SECRET), pem_key(SIGNERS["RS256"].pem))
    assert (await both.verify(hs256(CLAIMS))).id == 'jwt:[null,"u1"]'
    assert (await both.verify(SIGNERS["RS256"].sign(CLAIMS))).id == 'jwt:[null,"u1"]'


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "HS512", "HS384", "RS512", "PS256", "hs256"])
async def test_the_token_does_not_choose_the_algorithm(alg: str) -> None:
    for signature in (b"", b"x", hmac.digest(SECRET.encode(), b"x", hashlib.sha256)):
        await refused(forge({"alg": alg, "typ": "JWT"}, CLAIMS, signature))


@pytest.mark.parametrize("header", [{}, {"alg": None}, {"alg": 1}, {"alg": ["HS256"]}, {"alg": {"a": 1}}])
async def test_malformed_headers(header: dict[str, Any]) -> None:
    await refused(forge(header, CLAIMS, b"x"))


@pytest.mark.parametrize("algorithm", SIGNERS)
async def test_a_public_key_is_no_secret(algorithm: str) -> None:
    pem = SIGNERS[algorithm].pem
    spellings = (pem, pem.strip(), pem.replace("\n", "\\n"), "".join(pem.split("\n")[1:-2]))
    for text in (*spellings, base64.b64decode("".join(pem.split("\n")[1:-2])).decode("latin-1")):
        head, body, _ = forge({"alg": "HS256", "typ": "JWT"}, CLAIMS).split(".")
        raw = text.encode("latin-1")
        signature = base64.urlsafe_b64encode(hmac.digest(raw, f"{head}.{body}".encode(), hashlib.sha256)).decode()
        token = f"{head}.{body}.{signature.rstrip('=')}"
        await refused(token, pem_key(pem))
        await refused(token, pem_key(pem), secret_key(SECRET))
    with pytest.raises(ValueError, match="not a secret"):
        secret_key(pem)


async def test_every_key_type_under_every_other_name() -> None:
    for signer in SIGNERS.values():
        for other in SIGNERS.values():
            if other is not signer:
                await refused(signer.sign(CLAIMS), pem_key(other.pem), secret_key(SECRET))
                _, body, signature = signer.sign(CLAIMS).split(".")
                renamed = forge({"alg": other.algorithm}, CLAIMS).split(".")[0]
                await refused(f"{renamed}.{body}.{signature}", pem_key(other.pem), pem_key(signer.pem))


@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": SIGNERS["RS256"].jwk},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"kid": "../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": "a" * 4000},
    ],
)
async def test_the_token_does_not_choose_the_key(extra: dict[str, Any]) -> None:
    evil = SIGNERS["RS256"]
    assert "known key" in await refused(evil.sign(CLAIMS, **extra), pem_key(Signer("RS256").pem))


@pytest.mark.parametrize(
    "header", [{"crit": ["x"], "x": 1}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True}]
)
async def test_critical_extensions_are_refused(header: dict[str, Any]) -> None:
    head, body, _ = forge({"alg": "HS256", **header}, CLAIMS).split(".")
    mac = hmac.digest(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256)
    assert "malformed" in await refused(f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}")


async def test_times() -> None:
    assert "expired" in await refused(hs256({**CLAIMS, "exp": NOW}))
    assert "expired" in await refused(hs256({**CLAIMS, "exp": NOW - 1}))
    assert "not valid yet" in await refused(hs256({**CLAIMS, "nbf": NOW + 1}))
    assert "not valid yet" in await refused(hs256({**CLAIMS, "iat": NOW + 1}))
    late = await verifier(leeway=5.0).verify(hs256({**CLAIMS, "exp": NOW - 4, "nbf": NOW + 4}))
    assert late.expires_at == NOW + 1
    for bad in ("1", True, [NOW], -1, 1e30):
        await refused(hs256({"scope": "subscribe"} | {"nbf": bad}))
    for bad in (True, [NOW + 60], 1e30, {"a": 1}):
        await refused(forged_exp(bad))


def forged_exp(value: Any) -> str:
    head, body, _ = forge({"alg": "HS256"}, {**CLAIMS, "exp": value}).split(".")
    mac = hmac.digest(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


async def test_what_was_good_is_not_good_for_ever() -> None:
    now = NOW
    checker = verifier(now=lambda: now)
    token = hs256(CLAIMS)
    assert isinstance(await checker.verify(token), Principal)
    now = NOW + 60
    with pytest.raises(BadToken, match="expired"):
        await checker.verify(token)


async def test_issuer_and_audience() -> None:
    fixed = {"issuer": "https://id.example", "audience": "gateway"}
    good = {**CLAIMS, "iss": "https://id.example", "aud": ["x", "gateway"]}
    assert await verifier(**fixed).verify(hs256(good))
    for change in ({"iss": "https://id.example/"}, {"iss": None}, {"iss": ["https://id.example"]}):
        await refused(hs256_raw({**good, **change}), **fixed)
    for change in ({"aud": "gateway2"}, {"aud": None}, {"aud": []}, {"aud": {"gateway": 1}}, {"aud": "gate"}):
        await refused(hs256_raw({**good, **change}), **fixed)
    await refused(hs256({key: value for key, value in good.items() if key != "iss"}), **fixed)
    await refused(hs256({key: value for key, value in good.items() if key != "aud"}), **fixed)
    assert "audience" in await refused(hs256({**CLAIMS, "aud": "other"})), "a token for somebody else"


def hs256_raw(claims: dict[str, Any]) -> str:
    head, body, _ = forge({"alg": "HS256"}, claims).split(".")
    mac = hmac.digest(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize(
    "claims",
    [
        {"tenant": ["t1"]},
        {"tenant": ""},
        {"tenant": "*t"},
        {"channels": "a\x00b"},
        {"channels": {"a": 1}},
        {"types": [None]},
        {"streams": 7},
        {"scope": {"subscribe": 1}},
    ],
)
async def test_rights_that_cannot_be_read_are_no_rights(claims: dict[str, Any]) -> None:
    assert "rights" in await refused(hs256({**CLAIMS, **claims}))


async def test_no_scope_is_no_right_and_foreign_scopes_are_passed_over() -> None:
    assert (await verifier().verify(hs256({"sub": "u"}))).scopes == frozenset()
    assert (await verifier().verify(hs256({"scope": "openid subscribe mail"}))).scopes == {"subscribe"}
    assert (await verifier().verify(hs256({"scope": ["publish"]}))).scopes == {"publish"}


@pytest.mark.parametrize("size", [MAX_TOKEN + 1, 1_000_000])
async def test_huge_tokens(size: int) -> None:
    assert "too long" in await refused("a" * size)
    assert "too long" in await refused(hs256({**CLAIMS, "x": "a" * size}))


@given(st.text(max_size=200) | st.from_regex(re.compile(r"[\w.-]{0,100}\.[\w-]{0,100}\.[\w-]{0,50}")))
async def test_anything_else_is_a_bad_token(token: str) -> None:
    await refused(token)


@given(at=st.integers(0, 2000), to=st.characters(min_codepoint=33, max_codepoint=126))
async def test_one_changed_character(at: int, to: str) -> None:
    token = hs256(CLAIMS)
    at %= len(token)
    changed = token[:at] + to + token[at + 1 :]
    try:
        await verifier().verify(changed)
    except BadToken:
        return
    # Base64 has spare bits in the last character of a part: the bytes are then the same.
    assert _bytes(changed) == _bytes(token)


def _bytes(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]


async def test_deep_and_odd_payloads() -> None:
    for payload in (b"[" * 3000 + b"]" * 3000, b'{"a":' * 900 + b"1" + b"}" * 900, b"[]", b'"x"', b"1", b"\xff", b""):
        head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
        body = base64.urlsafe_b64encode(payload).decode().rstrip("=")
        mac = hmac.digest(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256)
        token = f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        try:
            assert (await verifier().verify(token)).scopes == frozenset()
        except BadToken:
            continue


async def test_messages_quote_nothing_of_the_token() -> None:
    marked = {**CLAIMS, "sub": "MARK", "tenant": "MARK MARK", "iss": "MARK", "aud": "MARK"}
    for options in ({}, {"issuer": "i"}, {"audience": "a"}, {"issuer": "MARK", "audience": "MARK"}):
        message = await refused(hs256(marked, kid="MARK"), **options)
        assert "MARK" not in message
    assert "MARK" not in repr(verifier(secret_key("MARK" * 10))) + repr(secret_key("MARK" * 10))


def test_keys_that_are_refused() -> None:
    for private in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())):
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        with pytest.raises(ValueError, match="must"):
            pem_key(pem)
    for text in ("", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"):
        with pytest.raises(ValueError, match="PEM"):
            pem_key(text)
    assert pem_key(SIGNERS["ES256"].pem.replace("\n", "\\n")).algorithm == "ES256"
