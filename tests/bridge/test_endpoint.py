"""What an endpoint may be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import Endpoint, EndpointConfig, Secret
from gateway.bridge.signature import make_secret, public_key

URL = "https://your-app.example/webhooks"


def make(secrets: tuple[Secret, ...] = (), **fields: Any) -> Endpoint:
    return Endpoint("whk_1", EndpointConfig(url=URL, **fields), secrets, 1, 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"url": "ftp://x"},
        {"url": "https://user:pw@x.example"},
        {"url": "https://x.example/\r\nA: b"},
        {"events": []},
        {"events": ["sms *"]},
        {"events": "sms.*"},
        {"channels": ["\n"]},
        {"stream": "a b"},
        {"tenant": ""},
        {"dialect": "nonsense"},
        {"retry": "nonsense"},
        {"retry": []},
        {"retry": [-1]},
        {"retry": [float("inf")]},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"max_in_flight": 0},
        {"rate_limit": 0},
        {"headers": {"Host": "x"}},
        {"headers": {"webhook-signature": "x"}},
        {"headers": {"X-Trunx-Signature": "x"}},
        {"headers": {"X": "a\r\nB: c"}},
        {"headers": {"a b": "c"}},
        {"failover_url": URL},
        {"reply_stream": "gateway:ops"},
        {"colour": "red"},
    ],
)
def test_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EndpointConfig(**{"url": URL, **bad})


def test_filter_is_that_of_the_seeds() -> None:
    endpoint = make(events=["sms.*", "voice.*"])
    accepted = [
        it for it in ("sms.sent", "voice.ai.initiated", "sms", "call.ended") if endpoint.filter.accepts(None, "x", it)
    ]
    assert accepted == ["sms.sent", "voice.ai.initiated"]


def test_rotation_keeps_the_old_secret_until_its_time() -> None:
    endpoint = make((Secret("one"),)).rotated("two", now=1000.0, overlap=60.0)
    assert endpoint.live_secrets(1059.9) == ["two", "one"]
    assert endpoint.live_secrets(1060.0) == ["two"]
    again = endpoint.rotated("three", now=1010.0, overlap=10.0)
    assert again.live_secrets(1019.0) == ["three", "two", "one"]
    assert again.live_secrets(1020.0) == ["three"]
    assert endpoint.rotated("three", now=1010.0, overlap=0.0).live_secrets(1010.0) == ["three"]


def test_what_is_shown_has_no_secret_in_it() -> None:
    scheme = DIALECTS["telnyx"].scheme
    assert scheme is not None
    secret = make_secret(scheme, b"s" * 32)
    endpoint = make((Secret(secret),), dialect="telnyx", headers={"Authorization": "Bearer hush", "X-Plain": "x"})
    shown = endpoint.view()
    assert shown["public_key"] == public_key(secret)
    assert shown["headers"] == {"Authorization": "***", "X-Plain": "x"}
    assert secret not in str(shown)
    assert "public_key" not in make((Secret("whsec_x"),)).view()
