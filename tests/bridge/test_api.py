"""`/api/webhooks` as a user meets it: a real gateway in a process of its own, HTTP only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import standardwebhooks

from gateway.bridge.replays import KEPT
from tests.bridge.receiver import Receiver, status
from tests.support.inprocess import Here, serve_here
from tests.support.wait import wait_until


@pytest.fixture
async def here(redis_url: str) -> AsyncIterator[Here]:
    settings: dict[str, Any] = {"webhook_allow_http": True, "webhook_allow_cidrs": ["127.0.0.0/8"]}
    async with serve_here(redis_url, **settings) as it:
        assert it.gateway.bridge is not None
        worker = it.gateway.bridge.worker
        await wait_until(lambda: worker is not None and worker._leases.held == 64, "shards are held")
        yield it


@pytest.fixture
async def http(here: Here) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=here.url, timeout=20) as client:
        yield client


async def create(http: httpx.AsyncClient, url: str, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/api/webhooks", json={"url": url, "events": ["sms.*"], **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def publish(http: httpx.AsyncClient, type: str = "sms.delivered", **fields: Any) -> str:
    answer = await http.post("/api/events", json={"type": type, "data": {"id": "msg_1"}, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ids"][0])


async def logs(http: httpx.AsyncClient, id_: str, **query: Any) -> list[dict[str, Any]]:
    answer = await http.get(f"/api/webhooks/{id_}/logs", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["logs"]
    return found


def has_status(http: httpx.AsyncClient, id_: str, *wanted: str) -> Callable[[], Any]:
    async def check() -> bool:
        return [line["status"] for line in await logs(http, id_)] == list(wanted)

    return check


async def test_the_shapes_of_seed_000(http: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await create(http, receiver.url, events=["sms.*", "voice.*"], dialect="trunx")
    assert made["id"].startswith("whk_")
    assert made["secret"].startswith("whsec_")
    listed = (await http.get("/api/webhooks")).json()["webhooks"]
    assert [(it["id"], it["events"], it["active"]) for it in listed] == [(made["id"], ["sms.*", "voice.*"], True)]
    assert "secret" not in listed[0]
    assert listed[0]["createdAt"].endswith("Z")
    event_id = await publish(http, type="voice.ai.initiated")
    await wait_until(has_status(http, made["id"], "delivered"), "it is in the log")
    (line,) = await logs(http, made["id"], limit=20)
    assert line["id"].startswith("log_")
    assert (line["eventType"], line["eventId"], line["attempts"]) == ("voice.ai.initiated", event_id, 1)
    assert line["responseCode"] == 204
    assert (await http.delete(f"/api/webhooks/{made['id']}")).status_code == 204
    assert (await http.get(f"/api/webhooks/{made['id']}")).status_code == 404


async def test_a_delivery_with_every_attempt(http: httpx.AsyncClient, receiver: Receiver) -> None:
    answers = [status(500, "Set-Cookie: session=hush\r\nX-Why: tired\r\n", b"no"), status(200, body=b"yes")]
    receiver.answer = lambda received: answers[min(len(receiver.requests), 2) - 1]
    made = await create(http, receiver.url, retry=[0, 0.05], headers={"Authorization": "Bearer hush"})
    await publish(http)
    await wait_until(has_status(http, made["id"], "delivered"), "delivered at last")
    (line,) = await logs(http, made["id"])
    detail = (await http.get(f"/api/webhooks/{made['id']}/logs/{line['id']}")).json()
    first, second = detail["history"]
    assert (first["status"], second["status"]) == (500, 200)
    assert first["response"]["body"] == "no"
    assert first["response"]["headers"]["x-why"] == "tired"
    assert first["request"]["body"].encode() == receiver.requests[0].body
    assert first["request"]["headers"]["webhook-id"] == receiver.requests[0].webhook_id
    assert first["duration"]["total"] >= first["duration"]["first_byte"] > 0
    assert first["url"] == receiver.url
    assert "hush" not in str(detail)
    assert receiver.requests[0].headers["authorization"] == "Bearer hush"


async def test_failed_then_resent(http: httpx.AsyncClient, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500)
    made = await create(http, receiver.url, retry=[0, 0.01])
    await publish(http)
    await wait_until(has_status(http, made["id"], "failed"), "given up")
    assert await logs(http, made["id"], status="delivered") == []
    (line,) = await logs(http, made["id"], status="failed")
    receiver.answer = lambda received: status(200)
    answer = await http.post(f"/api/webhooks/{made['id']}/logs/{line['id']}/resend")
    assert answer.status_code == 202, answer.text
    await wait_until(has_status(http, made["id"], "delivered"), "resent")
    assert len(receiver.requests) == 3
    ops = (
        await http.get("/api/events", params={"stream": "gateway:ops"}, headers={"Accept": "application/json"})
    ).json()
    assert [event["type"] for event in ops["events"]] == ["webhook.exhausted"]
    assert ops["events"][0]["data"]["webhook"] == made["id"]


async def test_rotation_with_overlap(http: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await create(http, receiver.url)
    answer = (await http.post(f"/api/webhooks/{made['id']}/rotate-secret", json={"overlap_seconds": 3600})).json()
    assert answer["secret"] != made["secret"]
    assert answer["previous_valid_until"]
    test = (await http.post(f"/api/webhooks/{made['id']}/test")).json()
    assert test["status"] == "delivered"
    assert test["response"] is not None
    (received,) = receiver.requests
    for secret in (made["secret"], answer["secret"]):
        body = standardwebhooks.Webhook(secret).verify(received.body, received.headers)
        assert body["type"] == "gateway.test"


async def test_ed25519_shows_its_public_key_only(http: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await create(http, receiver.url, dialect="telnyx")
    assert "secret" not in made
    assert (await http.get(f"/api/webhooks/{made['id']}")).json()["public_key"] == made["public_key"]
    rotated = (await http.post(f"/api/webhooks/{made['id']}/rotate-secret")).json()
    assert rotated["public_key"] != made["public_key"]
    assert "secret" not in rotated


async def test_disable_and_enable_lose_nothing(http: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await create(http, receiver.url)
    first = await publish(http)
    await wait_until(lambda: receiver.ids == [first], "the first is there")
    assert (await http.post(f"/api/webhooks/{made['id']}/disable")).json()["active"] is False
    meanwhile = [await publish(http) for _ in range(3)]
    assert (await http.post(f"/api/webhooks/{made['id']}/enable")).json()["active"] is True
    await wait_until(lambda: len(receiver.ids) >= 4, "all are there")
    assert sorted(set(receiver.ids)) == [first, *meanwhile]


async def test_replay_delivers_again_with_the_same_ids(http: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await create(http, receiver.url)
    ids = [await publish(http) for _ in range(5)]
    await wait_until(lambda: len(receiver.requests) == 5, "delivered")
    answer = await http.post(f"/api/webhooks/{made['id']}/replay", json={"since": ids[1], "until": ids[3]})
    assert answer.status_code == 202, answer.text

    async def done() -> bool:
        jobs = (await http.get(f"/api/webhooks/{made['id']}/replay")).json()["replays"]
        return bool([job["status"] for job in jobs] == ["done"])

    await wait_until(done, "the replay is over")
    assert sorted(receiver.ids[5:]) == ids[2:4]
    sent = {received.event_id: received.webhook_id for received in receiver.requests[:5]}
    assert all(sent[received.event_id] == received.webhook_id for received in receiver.requests[5:])


async def test_the_newest_replays_are_kept(http: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await create(http, receiver.url)
    path = f"/api/webhooks/{made['id']}/replay"

    async def replays() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await http.get(path)).json()["replays"]
        return found

    async def all_done() -> bool:
        return all(job["status"] == "done" for job in await replays())

    ids = []
    for _ in range(KEPT + 5):
        ids.append((await http.post(path, json={"since": "earliest"})).json()["id"])
        await wait_until(all_done, "it is over")
    # The last one was running when the old ones were looked for.
    assert sorted(job["id"] for job in await replays()) == sorted(ids[-KEPT - 1 :])


async def test_a_cancelled_replay_does_not_come_back(here: Here, http: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await create(http, receiver.url, rate_limit=1)
    path = f"/api/webhooks/{made['id']}/replay"
    for _ in range(5):
        await publish(http)
    running = (await http.post(path, json={"since": "earliest"})).json()["id"]
    assert (await http.delete(f"{path}/{running}")).json()["status"] == "cancelled"
    for _ in range(KEPT + 1):
        job = (await http.post(path, json={"since": "latest"})).json()["id"]
        await http.delete(f"{path}/{job}")
    found = {job["id"]: job["status"] for job in (await http.get(path)).json()["replays"]}
    assert found[running] == "cancelled"
    assert set(found.values()) <= {"cancelled", "done"}


async def test_change(http: httpx.AsyncClient, here: Here, receiver: Receiver) -> None:
    made = await create(http, receiver.url, headers={"X-Token": "hush"})
    path = f"/api/webhooks/{made['id']}"
    changed = (await http.patch(path, json={"events": ["voice.*"], "headers": {"X-Token": "***"}})).json()
    assert changed["events"] == ["voice.*"]
    assert "secret" not in changed
    assert here.gateway.bridge is not None
    worker = here.gateway.bridge.worker
    assert worker is not None
    await wait_until(
        lambda: made["id"] in worker.pumps and worker.pumps[made["id"]].endpoint.config.events == ("voice.*",),
        "the bridge knows it",
    )
    await publish(http)
    event_id = await publish(http, type="voice.answered")
    await wait_until(lambda: receiver.ids == [event_id], "only what it wants now")
    assert receiver.requests[0].headers["x-token"] == "hush"
    telnyx = (await http.patch(path, json={"dialect": "telnyx"})).json()
    assert telnyx["public_key"]
    assert (await http.patch(path, json={"stream": "t.other"})).status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://x.example", "colour": 1}, "colour"),
        ({"events": ["*"]}, "url"),
        ({"url": "https://x.example", "stream": "unserved"}, "stream"),
        ({"url": "https://x.example", "events": [1]}, "events.0"),
        ({"url": "https://x.example", "secret": "short"}, "secret"),
    ],
)
async def test_bad_input_names_the_field(http: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await http.post("/api/webhooks", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/webhooks/whk_none", 404),
        ("DELETE", "/api/webhooks/whk_none", 404),
        ("POST", "/api/webhooks/whk_none/test", 404),
        ("GET", "/api/webhooks/whk_none/logs?limit=0", 400),
        ("GET", "/api/webhooks/whk_none/logs?colour=red", 400),
    ],
)
async def test_not_there(http: httpx.AsyncClient, method: str, path: str, code: int) -> None:
    assert (await http.request(method, path)).status_code == code


async def test_https_only_unless_opened(redis_url: str) -> None:
    async with serve_here(redis_url) as here, httpx.AsyncClient(base_url=here.url) as http:
        answer = await http.post("/api/webhooks", json={"url": "http://x.example"})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"field": "url", "message": "must be https"}]


async def test_reply_stream(http: httpx.AsyncClient, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(200, body=b'{"voxml_version": 1.0}')
    await create(http, receiver.url, reply_stream="t.replies")
    event_id = await publish(http)

    async def replies() -> list[dict[str, Any]]:
        page = await http.get("/api/events", params={"stream": "t.replies"}, headers={"Accept": "application/json"})
        found: list[dict[str, Any]] = page.json()["events"]
        return found

    (reply,) = await wait_until(replies, "the reply is there")
    assert (reply["type"], reply["data"]["event_id"]) == ("webhook.reply", event_id)
    assert reply["data"]["body"] == {"voxml_version": 1.0}
