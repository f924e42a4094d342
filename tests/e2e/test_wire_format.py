"""CONTRACT section 3 byte by byte, over a raw socket."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.wire import Head, Wire, ask, connected, request, subscribed
from tests.support.whatwg import EventSourceParser

OPENING = re.compile(rb"retry: ([0-9]+)\n:[^\r\n\0]*\n")
POSITION = rb"[0-9]+-[0-9]+|[A-Za-z0-9_.:{}-]+@[0-9]+-[0-9]+(?:,[A-Za-z0-9_.:{}-]+@[0-9]+-[0-9]+)+"
FRAME = rb"(?:event: [A-Za-z0-9_.-]+\n)?data: [^\r\n\0]+\nid: (?:" + POSITION + rb")\n\n"
CHUNK = re.compile(rb"(?::\n)*(?:" + FRAME + rb")*(?::\n)*")
CAUGHT_UP = re.compile(rb"event: gateway\.caught-up\ndata: (\{[^\n]*\})\nid: ([^\n]+)\n\n")


def read_opening(wire: Wire) -> int:
    """The first write; its ``retry``."""
    opening = wire.chunk()
    match = OPENING.fullmatch(opening)
    assert match, opening
    assert len(opening) < 512
    return int(match[1])


def read_until(wire: Wire, wanted: bytes) -> bytes:
    """Chunks, each checked to hold whole frames, up to the one with `wanted`."""
    seen = b""
    while wanted not in seen:
        chunk = wire.chunk()
        assert chunk
        assert CHUNK.fullmatch(chunk), chunk
        seen += chunk
    return seen


def without_control(body: bytes) -> bytes:
    """Only the frames of events."""
    blocks = re.findall(FRAME, body)
    return b"".join(block for block in blocks if not block.startswith(b"event: gateway."))


def check_stream_headers(head: Head, position: str) -> None:
    """All headers of a stream, and no other."""
    assert head.status == 200
    assert head.get("content-type") == "text/event-stream; charset=utf-8"
    assert head.get("cache-control") == "no-store, no-transform"
    assert head.get("x-accel-buffering") == "no"
    assert head.get("gateway-position") == position
    assert head.get("transfer-encoding") == "chunked"
    allowed = {"content-type", "cache-control", "x-accel-buffering", "gateway-position", "transfer-encoding", "date"}
    assert set(head.names()) == allowed


def test_headers_and_the_opening_write(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 0)
    broker.add("sms.sent", 1)
    with subscribed(gateway.port, f"/api/events?since={tail}") as (wire, head):
        check_stream_headers(head, tail)
        read_opening(wire)
        assert read_until(wire, b"gateway.caught-up").startswith(b"event: sms.sent\n")


def test_retry_is_spread_by_20_percent(gateway: GatewayProcess) -> None:
    seen = set()
    for _ in range(20):
        with subscribed(gateway.port) as (wire, _head):
            seen.add(read_opening(wire))
    assert min(seen) >= 2400
    assert max(seen) <= 3600
    assert len(seen) > 10


def test_a_frame_is_event_data_id_and_a_blank_line(gateway: GatewayProcess, broker: Broker) -> None:
    with subscribed(gateway.port) as (wire, _head):
        read_opening(wire)
        read_until(wire, b"gateway.caught-up")
        entry = {
            "type": "sms.delivered",
            "data": '{"b":1.0,\n "a":9007199254740993}',
            "channel": "c:1",
            "tenant": "t_1",
        }
        entry["time"] = "2025-01-01T12:00:00.000Z"
        position = broker.raw_add(entry)
        frame = without_control(read_until(wire, position.encode() + b"\n\n"))
    assert frame == (
        b"event: sms.delivered\n"
        b'data: {"id":"%b","stream":"events","channel":"c:1","type":"sms.delivered","time":"2025-01-01T12:00:00.000Z",'
        b'"tenant":"t_1","data":{"b":1.0, "a":9007199254740993}}\n'
        b"id: %b\n\n"
    ) % (position.encode(), position.encode())


def test_unnamed_frames_have_no_event_line(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 1)
    position = broker.add("sms.sent", "x")
    with subscribed(gateway.port, f"/api/events?named=false&format=raw&since={tail}") as (wire, _head):
        read_opening(wire)
        body = read_until(wire, b"gateway.caught-up")
    assert body.startswith(b'data: "x"\nid: %b\n\n' % position.encode())


def test_caught_up_comes_after_the_replay(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 0)
    last = [broker.add("sms.sent", number) for number in range(3)][-1]
    with subscribed(gateway.port, f"/api/events?since={tail}") as (wire, _head):
        read_opening(wire)
        body = read_until(wire, b"gateway.caught-up")
    match = CAUGHT_UP.search(body)
    assert match
    assert match.end() == len(body.removesuffix(b":\n"))
    assert json.loads(match[1]) == {"position": last, "replayed": 3}
    assert match[2].decode() == last


def test_several_streams_have_a_composite_position(gateway: GatewayProcess, broker: Broker) -> None:
    first = broker.add("pay.done", 1, stream="t:payments")
    order = broker.add("order.made", 1, stream="t:orders")
    with subscribed(gateway.port, "/api/events?stream=t:payments,t:orders") as (wire, head):
        position = f"t:orders@{order},t:payments@{first}"
        assert head.get("gateway-position") == position
        read_opening(wire)
        read_until(wire, b"gateway.caught-up")
        second = broker.add("pay.done", 2, stream="t:payments")
        body = read_until(wire, second.encode())
    assert f"\nid: t:orders@{order},t:payments@{second}\n\n".encode() in body


def test_a_heartbeat_is_a_bare_comment_line(gateway: GatewayProcess) -> None:
    with subscribed(gateway.port) as (wire, _head):
        read_opening(wire)
        read_until(wire, b"gateway.caught-up")
        assert [wire.chunk() for _ in range(3)] == [b":\n"] * 3


def test_no_block_goes_out_without_data(gateway: GatewayProcess, broker: Broker) -> None:
    parser = EventSourceParser()
    with subscribed(gateway.port) as (wire, _head):
        beats = 0
        while beats < 3:
            chunk = wire.chunk()
            beats += chunk == b":\n"
            parser.feed(chunk)
        position = broker.add("sms.sent", 1)
        while not parser.messages or parser.messages[-1].last_event_id != position:
            parser.feed(wire.chunk())
    assert parser.empty_blocks == 0
    assert parser.messages[-1].type == "sms.sent"


def test_ndjson_is_one_envelope_a_line(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 1)
    position = broker.add("sms.sent", {"t": "\u2028"})
    target, accept = f"/api/events?since={tail}", "Accept: application/x-ndjson"
    with subscribed(gateway.port, target, accept) as (wire, head):
        assert head.get("content-type") == "application/x-ndjson"
        assert wire.chunk() == b"\n"
        body = b""
        while not body.endswith(b"\n\n"):
            body += wire.chunk()
    event, control, *beats = body.split(b"\n")
    assert json.loads(event)["id"] == position
    assert json.loads(control) == {
        "control": "gateway.caught-up",
        "id": position,
        "data": {"position": position, "replayed": 1},
    }
    assert set(beats) == {b""}


def test_a_page_of_history(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 1)
    ids = [broker.add("sms.sent", number) for number in range(3)]
    answer = ask(gateway.port, "GET", f"/api/events?since={tail}&limit=2", "Accept: application/json")
    assert answer.head.get("content-type") == "application/json"
    assert answer.head.get("gateway-position") == tail
    page = answer.json()
    assert list(page) == ["events", "next", "gap"]
    assert [event["id"] for event in page["events"]] == ids[:2]
    assert page["next"] == ids[1]
    assert page["gap"] is None


def test_head_answers_headers_only_and_the_connection_goes_on(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 1)
    with connected(gateway.port) as wire:
        for _ in range(2):
            wire.send(request("HEAD", f"/api/events?since={tail}"))
            head = wire.answer("HEAD").head
            assert head.status == 200
            assert head.get("gateway-position") == tail
            assert head.get("content-type") == "text/event-stream; charset=utf-8"
        wire.send(request("HEAD", f"/api/events?since={tail}", "Accept: application/json"))
        assert wire.answer("HEAD").head.get("content-type") == "application/json"
        wire.send(request("GET", "/healthz"))
        assert wire.answer().json() == {"status": "ok"}


@pytest.fixture
def short_lived(broker: Broker, tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, broker.url, probed=True, drain_seconds=0.2)
    yield process
    process.close()


@pytest.mark.parametrize("control", ["true", "false"])
def test_a_drain_ends_the_stream_with_a_closing_block(short_lived: GatewayProcess, control: str) -> None:
    with subscribed(short_lived.port, f"/api/events?control={control}") as (wire, head):
        read_opening(wire)
        if control == "true":
            read_until(wire, b"gateway.caught-up")
        short_lived.child.signal(signal.SIGTERM)
        last = b"".join(iter(wire.chunk, b""))
        assert wire.rest() == b""
        position = head.get("gateway-position")
    assert short_lived.stop() == 0
    if control == "false":
        assert last == b""
        return
    match = re.fullmatch(rb"retry: ([0-9]+)\nevent: gateway\.closing\ndata: ([^\n]+)\nid: ([^\n]+)\n\n", last)
    assert match, last
    assert 3000 <= int(match[1]) <= 10_000
    assert json.loads(match[2]) == {"reason": "drain", "reconnect": True}
    assert match[3].decode() == position


def test_curl_as_an_http_1_0_client_gets_the_stream(gateway: GatewayProcess, broker: Broker) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    tail = broker.add("sms.sent", 0)
    position = broker.add("sms.sent", 1)
    command = ["curl", "-sN", "--http1.0", "--max-time", "20", f"{gateway.events}?since={tail}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        received = b""
        while b"gateway.caught-up" not in received:
            piece = curl.stdout.read1()
            assert piece, received
            received += piece
        curl.terminate()
    opening = OPENING.match(received)
    assert opening
    assert received[opening.end() :].startswith(b"event: sms.sent\n")
    assert position.encode() in received
