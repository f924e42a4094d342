"""What the tests of ``GET /api/events`` share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import redis

from tests.support.gateway import GatewayProcess
from tests.support.sseclient import EventStream

Add = Callable[..., list[str]]


@pytest.fixture
def add(db: redis.Redis, stream: str) -> Add:
    """``add("1-0", "2-0", type_=..., to=...)``: entries with these ids, payload the id, in `stream` unless said."""

    def adder(*ids: str, type_: str = "a.b", to: str = stream, **fields: str) -> list[str]:
        entries = [{"type": type_, "data": json.dumps(entry_id), **fields} for entry_id in ids]
        return [db.xadd(to, entry, id=entry_id).decode() for entry, entry_id in zip(entries, ids, strict=True)]

    return adder


@pytest.fixture
async def http(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    """For answers that end: pages, errors, HEAD."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20, headers={"Accept": "application/json"}) as client:
        yield client


def ids(stream: EventStream) -> list[str]:
    """The ids of the events so far."""
    return [json.loads(message.data)["id"] for message in stream.events]
