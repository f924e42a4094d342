"""Golden vectors (vendors' documents and libraries), and libraries that others wrote as judges."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from telnyx.lib.webhook_verification import verify_webhook_signature

from gateway.bridge.dialects import DIALECTS, STANDARD_WEBHOOKS, Scheme
from gateway.bridge.signature import SignatureError, Signer, make_secret, public_key, verify
from tests.bridge import nodejs

TRUNX_BODY = (
    b'{"channel":"sms","eventType":"sms.delivered","payload":{"id":"msg_xyz789","from":"+15551234567",'
    b'"to":"+15559876543","status":"delivered"},"customerId":"cust_123","timestamp":"2025-01-01T12:00:00.000Z"}'
)
TRUEDY_BODY = (
    b'{"event":"call.ended","timestamp":"2026-03-18T14:32:00.000Z",'
    b'"data":{"call":{"callId":"uv_call_abc123","duration":142}}}'
)
TELNYX_BODY = (
    b'{"data":{"record_type":"event","id":"86f58db9-0fe3-4adc-9d1f-46e66e6e9323","event_type":"message.sent",'
    b'"occurred_at":"2026-01-01T00:00:00.000Z","payload":{"text":"Hello"}},'
    b'"meta":{"attempt":1,"delivered_to":"https://www.example.com/hooks"}}'
)
SEED = bytes(range(32))
TELNYX_PUBLIC = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
WHSK = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
WHSK_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
T = 1767225600


def scheme(dialect: str) -> Scheme:
    found = DIALECTS[dialect].scheme
    assert found is not None
    return found


def telnyx_secret() -> str:
    return make_secret(scheme("telnyx"), SEED)


GOLDEN = [
    (
        "trunx",
        "whsec_aBcDeFgHiJkLmNoPqRsTuVwXyZ",
        T,
        TRUNX_BODY,
        {"X-Trunx-Signature": "da6b00aae1c2cfadac18590982e6adab8fac39e404576bb7ac789470b69be849"},
    ),
    (
        "truedy",
        "truedy_test_secret",
        T,
        TRUEDY_BODY,
        {
            "X-Truedy-Timestamp": str(T),
            "X-Truedy-Signature": "0b68d02f19adbb63fb20f88c4f55ff1f54fa730023d020b147a8849173cedca1",
        },
    ),
    (
        "telnyx",
        telnyx_secret(),
        T,
        TELNYX_BODY,
        {
            "telnyx-timestamp": str(T),
            "telnyx-signature-ed25519": (
                "AQkyYFy14SDqM9YyIiVzALRL4FOb/0tWBEDn9uAFsHvlZtwSjYXd6AoU+4/n7mLPq4nfQrizwCwP78K20IY9Aw=="
            ),
        },
    ),
    (
        "telnyx-hmac",
        "telnyx_public_key_as_hmac_secret",
        T,
        TELNYX_BODY,
        {
            "telnyx-timestamp": f"{T}000",
            "telnyx-signature-ed25519": "f88a1aeaa640363e6656f7d654579113c7d6921ff368dfef3ae2f193afd8c201",
        },
    ),
    (
        "standard",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        1614265330,
        b'{"test": 2432232314}',
        {
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
    ),
    (
        "standard",
        WHSK,
        1614265330,
        b'{"test": 2432232314}',
        {
            "webhook-timestamp": "1614265330",
            "webhook-signature": (
                "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
            ),
        },
    ),
]


@pytest.mark.parametrize(
    ("dialect", "secret", "now", "body", "headers"), GOLDEN, ids=[f"{g[0]}-{i}" for i, g in enumerate(GOLDEN)]
)
def test_golden_vector(dialect: str, secret: str, now: int, body: bytes, headers: dict[str, str]) -> None:
    assert Signer(scheme(dialect), [secret]).headers(MESSAGE_ID, now + 0.0, body) == headers


@pytest.mark.parametrize(
    ("dialect", "secret", "now", "body", "headers"), GOLDEN, ids=[f"{g[0]}-{i}" for i, g in enumerate(GOLDEN)]
)
def test_our_verifier_accepts_the_vector_and_nothing_else(
    dialect: str, secret: str, now: int, body: bytes, headers: dict[str, str]
) -> None:
    received = {"webhook-id": MESSAGE_ID, **{name.lower(): value for name, value in headers.items()}}
    it = scheme(dialect)
    verify(it, secret, received, body, now)
    with pytest.raises(SignatureError):
        verify(it, secret, received, body + b" ", now)
    other = make_secret(it, b"x" * 32) if secret != WHSK else "whsk_" + telnyx_secret().removeprefix("whsk_")
    with pytest.raises(SignatureError):
        verify(it, other, received, body, now)
    if it.timestamp_header:
        for skew in (-301, 301):
            with pytest.raises(SignatureError):
                verify(it, secret, received, body, now + skew)


@pytest.mark.parametrize("length", [16, 32, 63, 64, 65, 128, 256])
def test_keys_of_every_length(length: int) -> None:
    secret = base64.b64encode(bytes(range(length % 256)) or bytes(256)).decode()
    signer = Signer(STANDARD_WEBHOOKS, [secret])
    for _ in range(2):  # nothing of one signature may be left in the next
        headers = signer.headers(MESSAGE_ID, T, TRUNX_BODY)
        expected = hmac.digest(base64.b64decode(secret), f"{MESSAGE_ID}.{T}.".encode() + TRUNX_BODY, "sha256")
        assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


def test_public_key_is_the_one_that_the_vendor_shows() -> None:
    assert public_key(telnyx_secret()) == TELNYX_PUBLIC
    assert "whpk_" + public_key(WHSK) == WHSK_PUBLIC
    signed = Signer(STANDARD_WEBHOOKS, [WHSK]).headers("msg_1", T, b"{}")
    verify(STANDARD_WEBHOOKS, WHSK_PUBLIC, {**signed, "webhook-id": "msg_1"}, b"{}", T)


def test_two_keys_sign_where_the_header_has_room_for_two() -> None:
    old, new = (make_secret(STANDARD_WEBHOOKS, byte * 32) for byte in (b"o", b"n"))
    headers = Signer(STANDARD_WEBHOOKS, [new, old, WHSK]).headers("msg_1", T, b"{}")
    parts = headers["webhook-signature"].split(" ")
    assert [part[:4] for part in parts] == ["v1," + parts[0][3], "v1," + parts[1][3], "v1a,"]
    for secret in (old, new, WHSK):
        verify(STANDARD_WEBHOOKS, secret, {**headers, "webhook-id": "msg_1"}, b"{}", T)
    for dialect in ("trunx", "truedy", "telnyx-hmac"):
        it = scheme(dialect)
        assert Signer(it, [new, old]).headers("m", T, b"{}") == Signer(it, [new]).headers("m", T, b"{}")


@pytest.mark.parametrize(
    ("dialect", "secret"),
    [
        ("standard", "whsec_not base64!"),
        ("standard", "whsec_AAAA"),
        ("standard", "whsk_AAAA"),
        ("telnyx", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("telnyx", "whsk_" + base64.b64encode(SEED + SEED).decode()),
        ("trunx", "short"),
    ],
)
def test_a_secret_that_is_no_key_is_refused_at_once(dialect: str, secret: str) -> None:
    with pytest.raises(ValueError, match=r"must|public|base64"):
        Signer(scheme(dialect), [secret])


def cases(secret: str, headers: dict[str, str], body: str, stale: dict[str, str], other: str) -> list[dict[str, Any]]:
    """One that is right, then three that are wrong."""
    return [
        {"secret": secret, "headers": headers, "body": body},
        {"secret": secret, "headers": headers, "body": body.replace("a", "b", 1)},
        {"secret": secret, "headers": stale, "body": body},
        {"secret": other, "headers": headers, "body": body},
    ]


def signed(it: Scheme, secret: str, now: float, body: str) -> dict[str, str]:
    return {"webhook-id": "msg_events_1-0", **Signer(it, [secret]).headers("msg_events_1-0", now, body.encode())}


def library_cases() -> list[tuple[str, dict[str, Any]]]:
    now = time.time()
    found: list[tuple[str, dict[str, Any]]] = []
    secret, other = (make_secret(STANDARD_WEBHOOKS, byte * 32) for byte in (b"s", b"t"))
    body = '{"data":"ä €"}'
    right = signed(STANDARD_WEBHOOKS, secret, now, body)
    stale = signed(STANDARD_WEBHOOKS, secret, now - 400, body)
    for library in ("standardwebhooks", "svix"):
        found += ((library, case) for case in cases(secret, right, body, stale, other))
    telnyx = scheme("telnyx")
    secret, other = telnyx_secret(), make_secret(telnyx, b"t" * 32)
    right, stale = signed(telnyx, secret, now, body), signed(telnyx, secret, now - 400, body)
    found += (("telnyx", case) for case in cases(public_key(secret), right, body, stale, public_key(other)))
    return found


def judge_in_python(library: str, case: dict[str, Any]) -> None:
    if library == "telnyx":
        verify_webhook_signature(case["body"].encode(), case["headers"], case["secret"])
    elif library == "svix":
        svix.webhooks.Webhook(case["secret"]).verify(case["body"], case["headers"])
    else:
        standardwebhooks.Webhook(case["secret"]).verify(case["body"], case["headers"])


def test_python_libraries_accept_us_and_reject_what_is_wrong() -> None:
    for index, (library, case) in enumerate(library_cases()):
        if index % 4 == 0:
            judge_in_python(library, case)
        else:
            with pytest.raises(Exception, match=r"(?i)signature|timestamp"):
                judge_in_python(library, case)


def test_javascript_libraries_accept_us_and_reject_what_is_wrong() -> None:
    items = [{"library": library, **case} for library, case in library_cases()]
    answers = nodejs.run("libraries.mjs", items, str(nodejs.packages()))
    assert [answer == "ok" for answer in answers] == [True, False, False, False] * 3, answers
    assert all("ignature" in answer or "imestamp" in answer for answer in answers if answer != "ok"), answers
