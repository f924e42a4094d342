"""Entries become events, or say which rule they break; whatever bytes they are made of."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from gateway.events.envelope import ENCODERS
from gateway.events.event import SKIP_REASONS, Event, Skipped, format_time, read_entries, read_entry
from gateway.events.position import format_id, make_id
from gateway.events.rules import check_name, check_time, check_type, check_url
from tests.support.oracle import envelope, iso


def entry(**fields: bytes | str) -> Event | Skipped:
    """An entry of stream ``events`` with id 1735732800000-5, valid unless `fields` say otherwise."""
    whole = {"type": "sms.sent", "data": "1", **fields}
    flat = [part if isinstance(part, bytes) else part.encode() for pair in whole.items() for part in pair]
    return read_entry("events", b"1735732800000-5", flat)


def test_defaults() -> None:
    event = entry()
    assert isinstance(event, Event)
    assert (event.id, event.stream, event.type, event.data) == (make_id(1735732800000, 5), "events", "sms.sent", b"1")
    assert (event.channel, event.tenant, event.time) == ("sms", None, "2025-01-01T12:00:00.000Z")
    assert event.webhook_url is event.webhook_failover_url is None


def test_all_fields() -> None:
    event = entry(
        channel="a/b", tenant="t@x", time="2020-02-29T23:59:60+01:00", webhook_url="https://h/x", webhook_failover_url="http://h"
    )  # fmt: skip
    assert isinstance(event, Event)
    assert (event.channel, event.tenant, event.time) == ("a/b", "t@x", "2020-02-29T23:59:60+01:00")
    assert (event.webhook_url, event.webhook_failover_url) == ("https://h/x", "http://h")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "a..b"}, "invalid_type"),
        ({"type": ""}, "invalid_type"),
        ({"type": ".a"}, "invalid_type"),
        ({"type": "a\n"}, "invalid_type"),
        ({"type": "ä"}, "invalid_type"),
        ({"type": b"\xff"}, "invalid_type"),
        ({"type": "x" * 129}, "invalid_type"),
        ({"type": "gateway.gap"}, "reserved"),
        ({"data": b"\xff\xfe"}, "invalid_data"),
        ({"channel": ""}, "invalid_channel"),
        ({"channel": "a b"}, "invalid_channel"),
        ({"channel": "x" * 129}, "invalid_channel"),
        ({"tenant": "\r"}, "invalid_tenant"),
        ({"time": "2025-02-29T00:00:00Z"}, "invalid_time"),
        ({"time": "2025-01-01 00:00:00Z"}, "invalid_time"),
        ({"time": "1735732800"}, "invalid_time"),
        ({"webhook_url": "javascript:alert(1)"}, "invalid_webhook_url"),
        ({"webhook_failover_url": "https://u:p@h/"}, "invalid_webhook_url"),
    ],
    ids=str,
)
def test_broken_rules_have_names(fields: dict[str, str | bytes], reason: str) -> None:
    skipped = entry(**fields)
    assert isinstance(skipped, Skipped) and skipped.reason == reason
    assert skipped.reason in SKIP_REASONS


def test_missing_fields() -> None:
    for fields, reason in (
        ([b"data", b"1"], "missing_type"),
        ([b"type", b"a"], "missing_data"),
        ([], "missing_type"),
    ):
        skipped = read_entry("e", b"1-0", fields)
        assert isinstance(skipped, Skipped) and skipped.reason == reason


def test_of_a_repeated_field_the_last_counts() -> None:
    event = read_entry("e", b"1-0", [b"type", b"a", b"data", b"1", b"type", b"b", b"data", b"2"])
    assert isinstance(event, Event) and (event.type, event.data) == ("b", b"2")


@given(st.dictionaries(st.sampled_from(["type", "data", "channel", "tenant", "time", "webhook_url", "x"]), st.binary()))
def test_no_bytes_can_break_the_reader_or_forge_a_line(fields: dict[str, bytes]) -> None:
    flat = [part for name, value in fields.items() for part in (name.encode(), value)]
    event = read_entry("events", b"1-0", flat)
    if isinstance(event, Skipped):
        assert event.reason in SKIP_REASONS
        return
    for encode in ENCODERS.values():
        line = encode(event)
        assert not set(line) & set(b"\r\n\0")
        json.loads(line)


@given(st.binary())
def test_any_payload_arrives_as_itself_or_as_a_string(data: bytes) -> None:
    event = entry(data=data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert isinstance(event, Skipped)
        return
    assert isinstance(event, Event)
    value = json.loads(event.data)
    try:
        assert value == json.loads(text, parse_constant=lambda name: int(name))
    except ValueError:
        assert value == text


@given(st.integers(0, 253_402_300_799_999))
def test_times_of_ids(ms: int) -> None:
    assert format_time(ms) == iso(ms)
    parsed = datetime.fromisoformat(format_time(ms).replace("Z", "+00:00"))
    assert round((parsed - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000) == ms


def test_times_past_the_year_9999_stay_rfc_3339() -> None:
    assert format_time(253_402_300_800_000) == format_time(2**64 - 1) == "9999-12-31T23:59:59.999Z"


@given(st.text("ab1.", min_size=1, max_size=6), st.none() | st.just("c/d"), st.none() | st.just("t:1"))
def test_the_native_envelope_is_that_of_the_contract(type_: str, channel: str | None, tenant: str | None) -> None:
    fields = {b"type": type_.encode(), b"data": b'{"b":1.0,"a":9007199254740993}'}
    if channel:
        fields[b"channel"] = channel.encode()
    if tenant:
        fields[b"tenant"] = tenant.encode()
    event = read_entry("events", b"12-3", [part for pair in fields.items() for part in pair])
    if isinstance(event, Event):
        assert ENCODERS["native"](event).decode() == envelope("events", "12-3", fields)
        assert format_id(event.id) == "12-3"


def test_rules_agree_on_http_and_xadd() -> None:
    """What the API takes, the reader takes: nothing is accepted with 201 and then skipped."""
    urls = [
        "https://example.com/é",
        "https://h/\ud800",
        "https://h/%C3%A9",
        "https://[::1]/",
        "http://h:99999/",
        "https://h",
    ]
    for url in urls:
        try:
            check_url(url)
        except ValueError:
            continue
        assert isinstance(entry(webhook_url=url.encode("utf-8", "surrogatepass")), Event), url
    for check, bad in ((check_type, "a\n"), (check_name, "a\n"), (check_time, "2025-01-01T00:00:00Z\n")):
        with pytest.raises(ValueError):
            check(bad)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("more", [[], [b"channel", b"c"], [b"time", b"2026-01-02T03:04:05Z"]])
def test_one_payload_of_a_page_that_spans_lines_comes_on_one_line_and_the_others_as_they_are(
    end: bytes, more: list[bytes]
) -> None:
    spanning = end + b'{"a":' + end + b"1}" + end
    payloads = [b"1", spanning, b'"\\n"', b"not JSON" + end]
    reply = [(b"1-%d" % at, [b"type", b"a", b"data", payload, *more]) for at, payload in enumerate(payloads)]
    reply.insert(2, (b"1-1", [b"data", b"1" + end]))
    entries = read_entries("events", reply)
    assert isinstance(entries[2], Skipped)
    assert [it.data for it in entries if isinstance(it, Event)] == [
        b"1",
        b'{"a":1}',
        b'"\\n"',
        json.dumps("not JSON" + end.decode()).encode(),
    ]


def test_an_id_is_spelled_as_redis_spells_it() -> None:
    (event,) = read_entries("events", [(b"12-3", [b"type", b"a", b"data", b"1"])])
    assert isinstance(event, Event)
    assert event.spelled == event._replace(id_text=None).spelled == b"12-3"


NAMES = ["type", "data", "channel", "tenant", "time", "x"]
FIELDS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["a", "b.c", "gateway.x", "", "ü"]),
        "data": st.sampled_from(["1", '{"a":\n1}', "not JSON", "[1,\r2]", '"x"']),
    },
    optional={
        "channel": st.sampled_from(["c", "d", "", " "]),
        "tenant": st.sampled_from(["t", "u", "", " "]),
        "time": st.sampled_from(["2026-01-02T03:04:05Z", "yesterday"]),
        "x": st.just("y"),
    },
)


@given(st.lists(st.tuples(st.integers(1, 3), FIELDS), max_size=6))
@example([(1, {"type": "a", "data": "1", "channel": "c", "time": "2026-01-02T03:04:05Z"})])
@example([(1, {"type": "a", "data": "1", "channel": "c", "tenant": " "})])
def test_the_short_way_and_the_long_way_read_the_same(page: list[tuple[int, dict[str, str]]]) -> None:
    def reply(order: int) -> list[tuple[bytes, list[bytes]]]:
        return [
            (
                b"%d-%d" % (ms, at),
                [part.encode() for name in NAMES[::order] if name in fields for part in (name, fields[name])],
            )
            for at, (ms, fields) in enumerate(page)
        ]

    # Names in another order than publishers write them take the long way.
    assert read_entries("s", reply(1)) == read_entries("s", reply(-1))
