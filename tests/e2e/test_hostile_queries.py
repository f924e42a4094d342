"""Requests for events that nobody in their right mind sends: each gets a clear 4xx, and leaves nothing behind."""

from __future__ import annotations

import pytest

from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.problem import check_problem
from tests.e2e.support.wire import ask, connected, request, subscribed

pytestmark = pytest.mark.usefixtures("unharmed")

HUGE = "9" * 5000

BAD_QUERIES = {
    "unknown": ("typ=sms.sent", "typ"),
    "unknown with an encoded name": ("%74yp=x", "typ"),
    "unknown, and long": (f"{'x' * 5000}=1", "x" * 64),
    "unknown, with a line break": ("a%0d%0aX-Forged:%201=1", "a\r\nX-Forged: 1"),
    "unknown, not UTF-8": ("%ff%fe=1", "\ufffd\ufffd"),
    "upper case": ("TYPE=sms.sent", "TYPE"),
    "empty type": ("type=", "type"),
    "empty part": ("type=sms.sent,,sms.read", "type"),
    "empty channel": ("channel=", "channel"),
    "empty stream": ("stream=", "stream"),
    "empty alias": ("events=", "events"),
    "NUL in a type": ("type=sms%00", "type"),
    "line break in a type": ("type=sms%0d%0aevent:%20x", "type"),
    "line break in a channel": ("channel=sms%0a", "channel"),
    "line break in a stream": ("stream=events%0d%0aX-Forged:%201", "stream"),
    "not UTF-8": ("channel=%ff", "channel"),
    "overlong UTF-8": ("channel=%c0%ae", "channel"),
    "letters that look like ours": ("type=%D1%95ms", "type"),
    "encoded twice": ("type=sms%2525", "type"),
    "a long type": (f"type={'x' * 129}", "type"),
    "4,000 types": ("type=" + ",".join(f"a.{number}" for number in range(4000)), "type"),
    "a bad format": ("format=xml", "format"),
    "a bad flag": ("named=maybe", "named"),
    "a bad control flag": ("control=", "control"),
    "last 0": ("last=0", "last"),
    "last 1001": ("last=1001", "last"),
    "last negative": ("last=-1", "last"),
    "last as float": ("last=1e3", "last"),
    "last in other digits": ("last=%D9%A3", "last"),
    "last is huge": (f"last={HUGE}", "last"),
    "limit on a stream": ("limit=10", "limit"),
    "since and last": ("since=earliest&last=5", "last"),
    "since twice": ("since=1-0&since=2-0", "since"),
    "last event id twice": ("last_event_id=1-0&last_event_id=2-0", "last_event_id"),
    "since is a negative duration": ("since=-5m", "since"),
    "since is a long duration": (f"since={HUGE}d", "since"),
    "since is no time": ("since=2025-13-01T00:00:00Z", "since"),
    "since is a number": ("since=123", "since"),
    "a bare id for two streams": ("stream=events,t:x&since=1-0", "since"),
    "the id is garbage": ("last_event_id=garbage", "last_event_id"),
    "the id is negative": ("last_event_id=-1-0", "last_event_id"),
    "the sequence is negative": ("last_event_id=1--1", "last_event_id"),
    "the id is past 64 bits": ("last_event_id=18446744073709551616-0", "last_event_id"),
    "the id is huge": (f"last_event_id={HUGE}-0", "last_event_id"),
    "the id is in other digits": ("last_event_id=%D9%A1-%D9%A0", "last_event_id"),
    "the id ends in a line break": ("last_event_id=1-0%0a", "last_event_id"),
    "the id ends in a NUL": ("last_event_id=1-0%00", "last_event_id"),
    "a position with a stream twice": ("last_event_id=events@1-0,events@2-0", "last_event_id"),
    "a position of other streams": ("last_event_id=other@1-0", "last_event_id"),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_a_bad_query_is_a_400_that_names_the_parameter(gateway: GatewayProcess, case: str) -> None:
    query, field = BAD_QUERIES[case]
    body = check_problem(ask(gateway.port, "GET", "/api/events?" + query.encode().decode("latin-1")), 400)
    assert [error["field"] for error in body["errors"]] == [field]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", HUGE, "%31%00", ""])
def test_a_bad_page_limit(gateway: GatewayProcess, limit: str) -> None:
    answer = ask(gateway.port, "GET", f"/api/events?limit={limit}", "Accept: application/json")
    assert check_problem(answer, 400)["errors"][0]["field"] == "limit"


def test_more_parameters_than_anybody_needs(gateway: GatewayProcess) -> None:
    query = "&".join(f"type=a.{number}" for number in range(1001))
    check_problem(ask(gateway.port, "GET", f"/api/events?{query}"), 400)


@pytest.mark.parametrize("query", ["type=" + "a.b," * 10_000 + "a.b", "&".join(["channel=c"] * 10_000)])
def test_ten_thousand_values_are_more_than_a_head_may_hold(gateway: GatewayProcess, query: str) -> None:
    with connected(gateway.port) as wire:
        wire.send(request("GET", f"/api/events?{query}"))
        assert wire.head().status == 431


def test_65_streams(gateway: GatewayProcess) -> None:
    query = ",".join(f"t:{number}" for number in range(65))
    check_problem(ask(gateway.port, "GET", f"/api/events?stream={query}"), 400)


def test_a_stream_that_is_not_served(gateway: GatewayProcess) -> None:
    for stream in ("gateway:keys", "Events", "event", "events.", "{events}"):
        check_problem(ask(gateway.port, "GET", f"/api/events?stream={stream}"), 404)


@pytest.mark.parametrize(
    "value", ["garbage", "-1-0", "1-0,2-0", "\u00ff\u00fe", "events@", "@1-0", "x" * 8000, "0x1-0", "1-0\x01"]
)
def test_a_bad_last_event_id_header(gateway: GatewayProcess, value: str) -> None:
    answer = ask(gateway.port, "GET", "/api/events", f"Last-Event-ID: {value}")
    if answer.head.get("content-type") != "application/problem+json":
        assert answer.status == 400  # the parser of HTTP would not have it
        return
    check_problem(answer, 400)


@pytest.mark.parametrize("value", ["1-0 ", "1-0 \t", "\t 1-0", ""])
def test_blanks_round_a_header_are_no_part_of_it(gateway: GatewayProcess, value: str) -> None:
    assert ask(gateway.port, "HEAD", "/api/events", f"Last-Event-ID: {value}").status == 200


def test_repeated_last_event_ids(gateway: GatewayProcess) -> None:
    with subscribed(gateway.port, "/api/events", "Last-Event-ID: ", "Last-Event-ID: 0-0") as (_wire, head):
        assert head.status == 200


@pytest.mark.parametrize("event_id", ["0-0", "18446744073709551615-18446744073709551615", "00000000000000000001-0"])
def test_extreme_ids_are_ids(gateway: GatewayProcess, event_id: str) -> None:
    with subscribed(gateway.port, f"/api/events?since={event_id}") as (wire, head):
        assert head.status == 200
        assert wire.chunk().startswith(b"retry: ")


ACCEPTED = {
    "": 200,
    "*/*": 200,
    'text/event-stream; q=1.0; charset="a,b"': 200,
    "TEXT/EVENT-STREAM": 200,
    "image/png": 406,
    "text/event-stream;q=0": 406,
    "text/event-stream;q=nan": 406,
    "text/event-stream;q=-1": 406,
    "text/event-stream;q=x": 406,
    ";;;,,,;q=1": 406,
    "," * 20_000: 406,
    "a/b," * 4000: 406,
    "\u00ff/\u00fe": 406,
}


@pytest.mark.parametrize("accept", ACCEPTED, ids=lambda accept: repr(accept[:30]))
def test_absurd_accept_headers(gateway: GatewayProcess, accept: str) -> None:
    with subscribed(gateway.port, "/api/events", f"Accept: {accept}") as (_wire, head):
        assert head.status == ACCEPTED[accept]


PATHS = {
    "/api/events/": 404,
    "//api/events": 404,
    "/api//events": 404,
    "/api/../api/events": 404,
    "/./api/events": 404,
    "/API/EVENTS": 404,
    "/api/events%00": 404,
    "/api/events%0d%0aX-Forged:%201": 404,
    "/api/events%2f": 404,
    "/api/events;x=1": 404,
    "/api/events%3ftype=x": 404,
    "/%ff%fe": 404,
    "/%": 404,
    "/%zz": 404,
    "/assets/x/../../../../etc/passwd": 404,
    "/assets/x/..%2f..%2f..%2fetc%2fpasswd": 404,
    "/assets/x/%2fetc%2fpasswd": 404,
    "/assets/x/index.html%00.js": 404,
    "/" + "a/" * 10_000: 404,
    "/.git/config": 404,
    "/healthz/..": 404,
}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path[:40]))
def test_path_tricks(gateway: GatewayProcess, path: str) -> None:
    body = check_problem(ask(gateway.port, "GET", path), PATHS[path])
    assert "root:" not in body["detail"]


@pytest.mark.parametrize(
    "host", ["[", "]:x", "a b", "x/api/events?", "\u00ff", "evil.example/#", "a@b", ":99999999", ""]
)
@pytest.mark.parametrize("path", ["/nothing", "/api/events/", "/api/events?typ=x"])
def test_a_host_header_is_nothing_to_stumble_over(gateway: GatewayProcess, host: str, path: str) -> None:
    with connected(gateway.port) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
        answer = wire.answer()
    check_problem(answer, 400, 403, 404)
    assert b"evil" not in answer.body
    assert answer.head.get("location") is None


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "PURGE"])
@pytest.mark.parametrize("path", ["/api/events", "/healthz", "/metrics", "/"])
def test_methods_that_are_not_for_this_path(gateway: GatewayProcess, method: str, path: str) -> None:
    answer = ask(gateway.port, method, path)
    check_problem(answer, 405)
    assert answer.head.get("allow")
