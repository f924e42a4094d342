"""Pages of history, NDJSON, HEAD, and everything that is a 400."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import redis

from tests.sse.conftest import Add
from tests.support.bulk import fill
from tests.support.consumer import as_pair
from tests.support.gateway import GatewayProcess
from tests.support.sseclient import subscribe
from tests.support.wait import wait_until

EVENTS = "/api/events"


async def walk(http: httpx.AsyncClient, **query: str) -> list[list[dict[str, Any]]]:
    """Pages by their ``next``, until an empty one."""
    pages = []
    for _ in range(1000):
        answer = await http.get(EVENTS, params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        page = answer.json()
        assert list(page) == ["events", "next", "gap"]
        assert page["gap"] is None
        if not page["events"] and query.get("since") == page["next"]:
            return pages
        pages.append(page["events"])
        query["since"] = page["next"]
    raise AssertionError("the pages never end")


def ids(pages: list[list[dict[str, Any]]]) -> list[str]:
    return [event["id"] for page in pages for event in page]


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages_cover_everything_once(http: httpx.AsyncClient, stream: str, add: Add, limit: int) -> None:
    added = add(*(f"{n}-{n % 3}" for n in range(1, 22)))
    pages = await walk(http, stream=stream, limit=str(limit))
    assert ids(pages) == added
    assert all(len(page) <= limit for page in pages)


async def test_pages_of_several_streams_are_merged_by_id(http: httpx.AsyncClient, stream: str, add: Add) -> None:
    names = [f"{stream}.{letter}" for letter in "abc"]
    for n in range(1, 40):
        add(f"{n}-0", to=names[n * 7 % 3], type_="sms.sent" if n % 2 else "other")
    for limit in ("1", "4", "100"):
        pages = await walk(http, stream=",".join(names), limit=limit)
        assert ids(pages) == [f"{n}-0" for n in range(1, 40)]
    odd = await walk(http, stream=",".join(names), limit="5", type="sms.*")
    assert ids(odd) == [f"{n}-0" for n in range(1, 40, 2)]


async def test_a_page_of_a_rare_filter_goes_on(http: httpx.AsyncClient, stream: str, db: redis.Redis) -> None:
    fill(db, stream, 1, 1, "rare")
    fill(db, stream, 2, 24_989)
    fill(db, stream, 24_990, 24_990, "rare")
    fill(db, stream, 24_991, 25_000)
    assert ids(await walk(http, stream=stream, type="rare")) == ["1-0", "24990-0"]


async def test_page_begins_at_the_earliest_by_default(http: httpx.AsyncClient, stream: str, add: Add) -> None:
    add("1-0", "2-0")
    page = (await http.get(EVENTS, params={"stream": stream})).json()
    assert [event["id"] for event in page["events"]] == ["1-0", "2-0"]
    assert page["next"] == "2-0"
    last = (await http.get(EVENTS, params={"stream": stream, "last": "1"})).json()
    assert [event["id"] for event in last["events"]] == ["2-0"]
    latest = (await http.get(EVENTS, params={"stream": stream, "since": "latest"})).json()
    assert latest == {"events": [], "next": "2-0", "gap": None}


async def test_page_tells_its_gap(http: httpx.AsyncClient, stream: str, add: Add, db: redis.Redis) -> None:
    add("1-0", "2-0", "3-0")
    db.xtrim(stream, maxlen=1, approximate=False)
    page = (await http.get(EVENTS, params={"stream": stream, "since": "1-0"})).json()
    resumed_at = "2-18446744073709551615"
    assert page["gap"] == {"stream": stream, "requested": "1-0", "resumed_at": resumed_at, "reason": "trimmed"}
    assert [event["id"] for event in page["events"]] == ["3-0"]
    assert (await http.get(EVENTS, params={"stream": stream})).json()["gap"] is None


async def test_page_of_a_stream_that_does_not_exist(http: httpx.AsyncClient, stream: str) -> None:
    answer = await http.get(EVENTS, params={"stream": stream})
    assert answer.json() == {"events": [], "next": "0-0", "gap": None}


async def test_page_and_stream_carry_the_same_bytes(
    http: httpx.AsyncClient, gateway: GatewayProcess, stream: str, db: redis.Redis
) -> None:
    payloads = ["9007199254740993", "1.0", "1e400", "-0.0", '{"b":1,"a":{"b":1,"b":2}}', '"\\ud800\\u00e9é"', "[ 1 ]"]
    for data in payloads:
        db.xadd(stream, {"type": "a.b", "data": data})
    formats = ("native", "raw", "trunx", "truedy", "telnyx", "tryvox", "cloudevents")
    for format_ in formats:
        page = (await http.get(EVENTS, params={"stream": stream, "format": format_})).content
        query = {"stream": stream, "since": "earliest", "format": format_}
        async with await subscribe(gateway.url, query) as opened:
            await opened.told("caught-up")
            assert b'{"events":[' + ",".join(m.data for m in opened.events).encode() + b'],"next"' in page
            assert len(opened.events) == len(payloads)
            if format_ == "raw":
                assert [message.data for message in opened.events] == payloads


async def test_ndjson(gateway: GatewayProcess, stream: str, add: Add, db: redis.Redis) -> None:
    add("1-0", "2-0", "3-0")
    db.xtrim(stream, maxlen=2, approximate=False)
    headers = {"Accept": "application/x-ndjson"}
    query = {"stream": stream}
    async with await subscribe(gateway.url, query, headers=headers, last_event_id="0-0") as opened:
        assert opened.headers["content-type"] == "application/x-ndjson"
        await wait_until(lambda: b"caught-up" in opened.body)
        add("4-0")
        await wait_until(lambda: b'"4-0"' in opened.body)
        lines = [json.loads(line) for line in bytes(opened.body).split(b"\n") if line]
    resumed_at = "1-18446744073709551615"
    gap = {"stream": stream, "requested": "0-0", "resumed_at": resumed_at, "reason": "trimmed"}
    assert lines[0] == {"control": "gateway.gap", "id": resumed_at, "data": gap}
    assert [line["id"] for line in lines[1:3]] == ["2-0", "3-0"]
    told = {"position": "3-0", "replayed": 2}
    assert lines[3] == {"control": "gateway.caught-up", "id": "3-0", "data": told}
    assert lines[4]["id"] == "4-0" and list(lines[4])[:2] == ["id", "stream"]


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson", "application/json"])
async def test_head_answers_headers_only(gateway: GatewayProcess, stream: str, add: Add, accept: str) -> None:
    add("1-0", "2-0")
    for method in ("HEAD", "GET"):
        async with await subscribe(
            gateway.url, {"stream": stream, "since": "1-0"}, headers={"Accept": accept}, method=method
        ) as opened:
            assert opened.status == 200
            assert opened.headers["content-type"].startswith(accept)
            assert opened.headers["gateway-position"] == "1-0"
            if method == "HEAD":
                assert opened.body == b""
                # the connection is free for the next request at once
                opened.transport.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                await opened.until_closed()


async def test_accept_chooses(gateway: GatewayProcess, stream: str, add: Add) -> None:
    add("1-0")
    kinds = {
        "": "text/event-stream",
        "*/*": "text/event-stream",
        "text/html,application/xhtml+xml,*/*;q=0.8": "text/event-stream",
        "application/json": "application/json",
        "application/x-ndjson": "application/x-ndjson",
        "text/event-stream;q=0.1, application/json;q=0.9": "application/json",
        "text/event-stream;q=0, */*": "text/event-stream",
        "image/png": "application/problem+json",
    }
    for accept, kind in kinds.items():
        async with await subscribe(gateway.url, {"stream": stream}, headers={"Accept": accept}) as opened:
            assert opened.headers["content-type"].startswith(kind), accept
            assert opened.status == (406 if accept == "image/png" else 200)


BAD = [
    ("tpye=sms", "tpye"),
    ("type=", "type"),
    ("type=a,,b", "type"),
    ("events=", "events"),
    ("channel=", "channel"),
    ("stream=", "stream"),
    ("type=a%20b", "type"),
    ("type=%00", "type"),
    ("type=%ff", "type"),
    ("channel=a%0d%0ab", "channel"),
    ("type=" + "x" * 129, "type"),
    ("&".join(f"type=t{n}" for n in range(10_000)), ""),
    (",".join(["type=t", *(f"t{n}" for n in range(10_000))]), "type"),
    ("stream=a%20b", "stream"),
    ("stream=" + "x" * 129, "stream"),
    (",".join(["stream=t.0", *(f"t.{n}" for n in range(1, 100))]), "stream"),
    ("format=xml", "format"),
    ("format=", "format"),
    ("named=maybe", "named"),
    ("control=2", "control"),
    ("limit=10", "limit"),
    ("since=yesterday", "since"),
    ("since=", "since"),
    ("since=10", "since"),
    ("since=10w", "since"),
    ("since=-1-0", "since"),
    ("since=1-", "since"),
    ("since=1-0-0", "since"),
    ("since=18446744073709551616-0", "since"),
    ("since=1-18446744073709551616", "since"),
    ("since=%D9%A1-0", "since"),
    ("since=2025-13-01T00:00:00Z", "since"),
    ("since=2025-01-01T00:00:00", "since"),
    ("since=1-0&last=3", "last"),
    ("last=0", "last"),
    ("last=1001", "last"),
    ("last=-1", "last"),
    ("last=1e3", "last"),
    ("since=earliest&since=latest", "since"),
    ("last_event_id=x", "last_event_id"),
    ("last_event_id=1-0,2-0", "last_event_id"),
    ("last_event_id=other@1-0", "last_event_id"),
    ("stream=t.a,t.b&last_event_id=1-0", "last_event_id"),
    ("stream=t.a,t.b&since=1-0", "since"),
    ("stream=t.a,t.b&since=t.a@1-0,t.a@2-0", "since"),
]


@pytest.mark.parametrize(("query", "field"), BAD, ids=[query[:40] for query, _ in BAD])
async def test_bad_requests(gateway: GatewayProcess, query: str, field: str) -> None:
    async with await subscribe(gateway.url, path="/api/events?" + query) as opened:
        await wait_until(lambda: opened.complete or opened.closed.is_set())
        if len(query) > 50_000 and opened.status == 431:
            return  # the server's own limit on a request's head
        assert opened.status == 400, bytes(opened.body)
        if opened.headers["content-type"] != "application/problem+json":
            assert len(query) > 50_000  # refused by the HTTP parser of another server
            return
        problem = json.loads(opened.body)
        assert problem["status"] == 400 and problem["title"] == "Bad Request"
        assert field in problem["detail"]
        assert not field or field in [error["field"] for error in problem["errors"]]


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1", ""])
async def test_bad_limits(http: httpx.AsyncClient, limit: str) -> None:
    answer = await http.get(EVENTS, params={"limit": limit})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["limit"]


@pytest.mark.parametrize("header", ["x", "1", "1-0\t-", "99999999999999999999-0", "1-0,2-0", "ä-0"])
async def test_bad_last_event_id_header(gateway: GatewayProcess, header: str) -> None:
    async with await subscribe(gateway.url, last_event_id=header) as opened:
        assert opened.status == 400


async def test_ignored_parameters(gateway: GatewayProcess, stream: str) -> None:
    async with await subscribe(gateway.url, {"stream": stream, "_": "1", "_x": "y", "padding": "true"}) as opened:
        assert opened.status == 200


async def test_streams_that_are_not_served(gateway: GatewayProcess) -> None:
    async with await subscribe(gateway.url, {"stream": "gateway:idempotency:x"}) as opened:
        assert opened.status == 404


async def test_filters_and_globs(http: httpx.AsyncClient, stream: str, add: Add) -> None:
    add("1-0", type_="voice")
    add("2-0", type_="voice.started")
    add("3-0", type_="voice.ai.initiated")
    add("4-0", type_="sms.sent", channel="voice")
    add("5-0", type_="sms.sent", channel="tenant/1:a@b")

    async def got(*query: tuple[str, str]) -> list[str]:
        page = (await http.get(EVENTS, params=[("stream", stream), *query])).json()
        return [event["id"][0] for event in page["events"]]

    assert await got(("type", "voice.*")) == ["2", "3"]
    assert await got(("events", "voice.*,voice")) == ["1", "2", "3"]
    assert await got(("type", "voice"), ("type", "sms.*")) == ["1", "4", "5"]
    assert await got(("channel", "voice")) == ["1", "2", "3", "4"]
    assert await got(("channel", "voice"), ("type", "sms.*")) == ["4"]
    assert await got(("channel", "tenant/*")) == ["5"]
    assert await got(("channel", "*"), ("type", "*")) == ["1", "2", "3", "4", "5"]


async def test_pages_while_somebody_publishes(http: httpx.AsyncClient, stream: str, db: redis.Redis) -> None:
    """A reader that walks by ``next`` sees each event once, also those added while it walks."""
    added: list[str] = []
    done = asyncio.Event()

    async def publish() -> None:
        for n in range(60):
            added.append(db.xadd(stream, {"type": "a.b", "data": str(n)}).decode())
            await asyncio.sleep(0)
        done.set()

    publishing = asyncio.ensure_future(publish())
    seen: list[str] = []
    since = "earliest"
    while True:
        finished = done.is_set()
        page = (await http.get(EVENTS, params={"stream": stream, "since": since, "limit": "7"})).json()
        seen += [event["id"] for event in page["events"]]
        since = page["next"]
        if finished and seen and as_pair(seen[-1]) >= as_pair(added[-1]):
            break
    await publishing
    assert seen == added
