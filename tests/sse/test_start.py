"""Where a subscription starts: ids, times, durations, words, the newest N."""

from __future__ import annotations

import time

import pytest

from tests.sse.conftest import Add, ids
from tests.support.consumer import as_pair
from tests.support.gateway import GatewayProcess
from tests.support.sseclient import EventStream, Query, subscribe

HOUR = 3_600_000


async def opened(gateway: GatewayProcess, query: Query, last_event_id: str = "") -> EventStream:
    """Subscribe and read until caught up."""
    stream = await subscribe(gateway.url, query, last_event_id=last_event_id)
    assert stream.status == 200, bytes(stream.body)
    await stream.told("caught-up")
    return stream


async def test_latest_is_the_default(gateway: GatewayProcess, stream: str, add: Add) -> None:
    add("1-0", "2-0")
    async with (
        await opened(gateway, {"stream": stream}) as plain,
        await opened(gateway, {"stream": stream, "since": "latest"}) as latest,
    ):
        add("3-0")
        assert await plain.has(1) and await latest.has(1)
        assert ids(plain) == ids(latest) == ["3-0"]
        assert plain.names == latest.names == ["gateway.caught-up", "a.b"]


async def test_earliest(gateway: GatewayProcess, stream: str, add: Add) -> None:
    add("1-0", "2-0")
    async with await opened(gateway, {"stream": stream, "since": "earliest"}) as earliest:
        assert ids(earliest) == ["1-0", "2-0"]
        assert earliest.headers["gateway-position"] == "0-0"
        assert earliest.control("caught-up") == {"position": "2-0", "replayed": 2}


async def test_an_id_is_exclusive(gateway: GatewayProcess, stream: str, add: Add) -> None:
    add("1-0", "2-0", "2-1", "3-0")
    async with await opened(gateway, {"stream": stream, "since": "2-0"}) as since:
        assert ids(since) == ["2-1", "3-0"]
        assert since.headers["gateway-position"] == "2-0"


@pytest.mark.parametrize("twin", ["last_event_id", "lastEventId", "lastEventID"])
async def test_the_header_has_twins_in_the_query(gateway: GatewayProcess, stream: str, add: Add, twin: str) -> None:
    add("1-0", "2-0", "3-0")
    async with await opened(gateway, {"stream": stream, twin: "1-0"}) as query:
        assert ids(query) == ["2-0", "3-0"]
    async with await opened(gateway, {"stream": stream, twin: "1-0"}, last_event_id="2-0") as both:
        assert ids(both) == ["3-0"]


async def test_a_last_event_id_wins_over_since_and_last(gateway: GatewayProcess, stream: str, add: Add) -> None:
    add("1-0", "2-0", "3-0")
    for start in ({"since": "earliest"}, {"last": "3"}):
        async with await opened(gateway, {"stream": stream, **start}, last_event_id="2-0") as resumed:
            assert ids(resumed) == ["3-0"]


@pytest.mark.parametrize(("duration", "hours"), [("3600s", 1), ("60m", 1), ("1h", 1), ("2h", 2), ("1d", 24)])
async def test_durations(gateway: GatewayProcess, stream: str, add: Add, duration: str, hours: int) -> None:
    now = int(time.time() * 1000)
    inside, outside = now - hours * HOUR + 60_000, now - hours * HOUR - 60_000
    add(f"{outside}-0", f"{inside}-0", f"{now}-0")
    async with await opened(gateway, {"stream": stream, "since": duration}) as since:
        assert ids(since) == [f"{inside}-0", f"{now}-0"]
        assert since.controls("gap") == []


@pytest.mark.parametrize(
    "moment",
    [
        "2025-01-01T12:00:00Z",
        "2025-01-01T12:00:00.000Z",
        "2025-01-01t12:00:00z",
        "2025-01-01T13:00:00+01:00",
        "2025-01-01T06:30:00.000000000-05:30",
    ],
)
async def test_rfc_3339(gateway: GatewayProcess, stream: str, add: Add, moment: str) -> None:
    at = 1_735_732_800_000
    add(f"{at - 1}-7", f"{at}-0", f"{at}-1")
    async with await opened(gateway, {"stream": stream, "since": moment}) as since:
        assert ids(since) == [f"{at}-0", f"{at}-1"]
        assert since.controls("gap") == []


async def test_a_plus_sign_that_became_a_blank(gateway: GatewayProcess, stream: str, add: Add) -> None:
    at = 1_735_732_800_000
    add(f"{at - 1}-0", f"{at}-0")
    path = f"/api/events?stream={stream}&since=2025-01-01T13:00:00+01:00"
    async with await subscribe(gateway.url, path=path) as since:
        await since.told("caught-up")
        assert ids(since) == [f"{at}-0"]


async def test_a_time_in_the_future_is_now(gateway: GatewayProcess, stream: str, add: Add) -> None:
    add("1-0")
    async with await opened(gateway, {"stream": stream, "since": "2999-01-01T00:00:00Z"}) as future:
        add("2-0")
        await future.has(1)
        assert future.names == ["gateway.caught-up", "a.b"]
        assert ids(future) == ["2-0"]


async def test_last_counts_matching_events(gateway: GatewayProcess, stream: str, add: Add) -> None:
    for n in range(1, 3001, 10):
        add(f"{n}-0", type_="sms.sent")
        add(f"{n}-1", f"{n}-2", type_="noise")
    async with await opened(gateway, {"stream": stream, "last": "3", "type": "sms.*"}) as last:
        assert ids(last) == ["2971-0", "2981-0", "2991-0"]
        assert last.control("caught-up")["replayed"] == 3
    async with await opened(gateway, {"stream": stream, "last": "1000", "type": "sms.*"}) as more_than_there_are:
        assert len(ids(more_than_there_are)) == 300
    async with await opened(gateway, {"stream": stream, "last": "3", "type": "none"}) as none:
        assert none.names == ["gateway.caught-up"]
        assert none.control("caught-up")["position"] == "2991-2"


async def test_last_over_several_streams(gateway: GatewayProcess, stream: str, add: Add) -> None:
    left, right = stream + ".l", stream + ".r"
    add("1-0", "4-0", "6-0", to=left)
    add("2-0", "3-0", "5-0", to=right)
    async with await opened(gateway, {"stream": f"{left},{right}", "last": "3"}) as last:
        assert sorted(ids(last)) == ["4-0", "5-0", "6-0"]
        assert last.control("caught-up")["position"] == f"{left}@6-0,{right}@5-0"


async def test_composite_positions(gateway: GatewayProcess, stream: str, add: Add) -> None:
    left, right, third = (f"{stream}.{letter}" for letter in "lrx")
    for name in (left, right, third):
        add("1-0", "2-0", "3-0", to=name)
    names = f"{left},{right},{third}"
    # One that is missing starts live; one that nobody asked for is of no account.
    position = f"{right}@1-0,{left}@2-0,t.other@7-7"
    for query, header in (({}, position), ({"last_event_id": position}, ""), ({"since": position}, "")):
        async with await opened(gateway, {"stream": names, **query}, last_event_id=header) as resumed:
            got = [(m.type, i) for m, i in zip(resumed.events, ids(resumed), strict=True)]
            assert sorted(i for _, i in got) == ["2-0", "3-0", "3-0"]
            assert resumed.position == f"{left}@3-0,{right}@3-0,{third}@3-0"
            assert resumed.headers["gateway-position"] == f"{left}@2-0,{right}@1-0,{third}@3-0"
    async with await opened(gateway, {"stream": left}, last_event_id=f"{left}@2-0") as narrowed:
        assert ids(narrowed) == ["3-0"]
        assert narrowed.position == "3-0"


async def test_every_id_of_a_composite_stream_can_be_resumed(gateway: GatewayProcess, stream: str, add: Add) -> None:
    left, right = stream + ".l", stream + ".r"
    for n in range(1, 6):
        add(f"{n}-0", to=left)
        add(f"{n}-0", to=right)
    names = f"{left},{right}"
    async with await opened(gateway, {"stream": names, "since": "earliest"}) as whole:
        everything = whole.events
    for at, message in enumerate(everything):
        async with await opened(gateway, {"stream": names}, last_event_id=message.last_event_id) as rest:
            seen = {event.data for event in everything[: at + 1]} | {event.data for event in rest.events}
            assert seen == {event.data for event in everything}
            assert len(rest.events) == len(everything) - at - 1


async def test_positions_come_from_any_process(
    gateway: GatewayProcess, shared_gateway: object, stream: str, add: Add
) -> None:
    other = shared_gateway("direct", window_events=7)  # type: ignore[operator]
    added = add(*"****")
    async with await opened(gateway, {"stream": stream, "since": "earliest"}) as first:
        position = first.events[1].last_event_id
    async with await opened(other, {"stream": stream}, last_event_id=position) as second:
        assert ids(second) == added[2:]
        assert as_pair(second.position) == as_pair(added[-1])
