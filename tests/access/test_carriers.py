"""Where credentials stand in a request, whose address counts, and which pages may read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.address import Addresses, networks
from gateway.access.carrier import Credential, Unusable, find_credential, is_same_origin
from gateway.access.cors import Cors, Origins
from gateway.access.policy import _is_private_name


def found(query: str = "", in_url: bool = True, **headers: str | list[str]) -> Credential | None:
    pairs = [
        (name.lower().encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return find_credential(pairs, query.encode("latin-1"), in_url=in_url)


@pytest.mark.parametrize(
    ("given_", "kind", "text"),
    [
        ({"authorization": "Bearer abc"}, "header", "abc"),
        ({"authorization": "bEARER  a.b-c_~+/=="}, "header", "a.b-c_~+/=="),
        ({"query": "access_token=abc"}, "query", "abc"),
        ({"query": "stream=a&access%5Ftoken=a%2eb"}, "query", "a.b"),
        ({"query": "ticket=gwt_1&channel=a"}, "ticket", "gwt_1"),
        ({"cookie": "a=1; gateway_token=abc; b=2"}, "cookie", "abc"),
        ({"cookie": 'gateway_token="abc"'}, "cookie", "abc"),
        ({"cookie": ["a=1", "gateway_token=abc"]}, "cookie", "abc"),
        ({"authorization": "Bearer x", "query": "ticket=y", "cookie": "gateway_token=z"}, "header", "x"),
        ({"query": "ticket=y", "cookie": "gateway_token=z"}, "ticket", "y"),
        ({"query": "access_token=", "cookie": "gateway_token=z"}, "query", ""),
    ],
)
def test_each_carrier(given_: dict[str, Any], kind: str, text: str) -> None:
    credential = found(**given_)
    assert credential is not None and (credential.kind, credential.text) == (kind, text)
    assert text == "" or text not in repr(credential)


@pytest.mark.parametrize(
    "given_",
    [
        {"authorization": ["Bearer a", "Bearer b"]},
        {"authorization": "Basic YTpi"},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer a b"},
        {"authorization": "Bearer a,b"},
        {"authorization": "Bearer é"},
        {"query": "access_token=a&access_token=a"},
        {"query": "ticket=a&access_token=a"},
        {"cookie": "gateway_token=a; gateway_token=b"},
        {"cookie": ["gateway_token=a", "gateway_token=b"]},
    ],
)
def test_what_is_doubtful_is_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(Unusable):
        found(**given_)


def test_only_one_path_takes_credentials_from_anywhere_else() -> None:
    assert found("access_token=a", in_url=False, cookie="gateway_token=a") is None
    assert found() is None and found("xaccess_token=a&tickets=b", cookie="xgateway_token=a; gateway_tokens=b") is None


@given(query=st.binary(max_size=60), cookie=st.text(st.characters(max_codepoint=255), max_size=60), auth=st.text(
    st.characters(max_codepoint=255), max_size=40))  # fmt: skip
def test_anything_at_all(query: bytes, cookie: str, auth: str) -> None:
    raw = [(b"cookie", cookie.encode("latin-1")), (b"authorization", auth.encode("latin-1"))]
    for headers in (raw, raw[:1]):
        try:
            find_credential(headers, query, in_url=True)
        except Unusable as error:
            assert len(str(error)) < 100


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("https://a.example", "a.example", True),
        ("https://a.example", "A.example:443", True),
        ("http://a.example:8080", "a.example:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://a.example", "b.example", False),
        ("https://a.example:8443", "a.example", False),
        ("https://a.example.evil.com", "a.example", False),
        ("null", "a.example", False),
        ("", "", False),
        ("file://", "", False),
        ("https://a.example:x", "a.example", False),
        ("https://[", "[", False),
    ],
)
def test_same_origin(origin: str, host: str, same: bool) -> None:
    assert is_same_origin(origin, host) is same


PROXIES = Addresses(networks(["127.0.0.0/8", "::1/128", "10.0.0.0/8"]))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6", "198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("127.0.0.1", [], None),
        ("10.1.2.3", ["10.4.4.4"], None),
        ("10.1.2.3", ["198.51.100.1, nonsense"], None),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("10.1.2.3", ["[2001:db8::5]:443"], "2001:db8::/64"),
        ("10.1.2.3", ["198.51.100.1:5555"], "198.51.100.1"),
        (None, ["198.51.100.1"], None),
        ("", [], None),
    ],
)
def test_addresses(peer: str | None, forwarded: list[str], address: str | None) -> None:
    assert PROXIES.client(peer, forwarded) == address


@given(peer=st.text(max_size=20), lines=st.lists(st.text(max_size=40), max_size=3))
def test_any_address(peer: str, lines: list[str]) -> None:
    PROXIES.client(peer, lines)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1:8080", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("app.localhost:80", True),
        ("gateway:8080", True),
        ("[::1]:8080", True),
        ("host.docker.internal:8080", True),
        ("", True),
        ("evil.example.com", False),
        ("localhost.evil.com:8080", False),
        ("127.0.0.1.nip.io", False),
        ("evil.com.", False),
    ],
)
def test_names_that_public_dns_could_point_here(host: str, private: bool) -> None:
    assert _is_private_name(host) is private


async def ask(origins: list[str], method: str, origin: str | None, **headers: str) -> tuple[int, dict[str, str], bool]:
    """(status, headers, whether the application was asked) of a request through `Cors`."""
    asked: list[int] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    raw += [(b"origin", origin.encode())] if origin is not None else []
    await Cors(app, Origins(origins))({"type": "http", "method": method, "headers": raw}, receive, send)
    answer = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answer, bool(asked)


APP = "https://app.example"


async def test_a_named_origin_may_read_with_credentials() -> None:
    _, headers, _ = await ask([APP], "GET", APP)
    assert headers["access-control-allow-origin"] == APP and headers["access-control-allow-credentials"] == "true"
    assert "Gateway-Position" in headers["access-control-expose-headers"] and headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", APP + ".evil.example", "http://app.example", ""])
async def test_others_may_not(origin: str) -> None:
    for method in ("GET", "POST"):
        _, headers, _ = await ask([APP], method, origin)
        assert not [name for name in headers if name.startswith("access-control")] and headers["vary"] == "Origin"
    status, headers, asked = await ask([APP], "OPTIONS", origin, access_control_request_method="POST")
    assert (status, asked) == (403, False) and not [name for name in headers if name.startswith("access-control")]


async def test_the_star_stands_for_all_without_credentials() -> None:
    for origins in (["*"], ["*", APP]):
        _, headers, _ = await ask(origins, "GET", "https://any.example")
        assert headers["access-control-allow-origin"] == "*" and "access-control-allow-credentials" not in headers


async def test_preflight() -> None:
    status, headers, asked = await ask([APP], "OPTIONS", APP, access_control_request_method="GET")
    assert (status, asked) == (204, False)
    allowed = {name.strip().lower() for name in headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "last-event-id", "content-type"} <= allowed
    assert "DELETE" in headers["access-control-allow-methods"]
    assert (await ask([APP], "OPTIONS", APP))[2] and (
        await ask([], "OPTIONS", APP, access_control_request_method="GET")
    )[2]
    assert (await ask([APP], "GET", None))[2]
