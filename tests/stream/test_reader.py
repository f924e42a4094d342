"""The reader's patience: never a busy loop, never long away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from gateway.events.event import Entry, read_entry
from gateway.events.position import MAX, EventId, make_id
from gateway.stream.gap import StreamInfo
from gateway.stream.reader import Reader
from gateway.stream.window import Window
from tests.support.wait import wait_until


class Observer:
    def __init__(self) -> None:
        self.told: list[str] = []

    def read(self, entries: Sequence[Entry]) -> None:
        self.told.append(f"read {len(entries)}")

    def lost(self, stream: str) -> None:
        self.told.append("lost")

    def regained(self, stream: str) -> None:
        self.told.append("regained")


class Source:
    """A stream of `count` entries that can be out of reach, and answers at once."""

    def __init__(self) -> None:
        self.count = 3
        self.error: Exception | None = None
        self.attempts: list[float] = []
        self.asked_after: list[EventId] = []

    async def tail(self, stream: str, after: EventId, count: int, block_ms: int) -> tuple[list[Entry], StreamInfo]:
        self.asked_after.append(after)
        entries = [entry for entry in self._entries() if entry.id > after][:count]
        if not entries:
            await asyncio.sleep(0.01)
        return entries, self._look()

    async def page_back(self, stream: str, until: EventId, count: int) -> tuple[list[Entry], StreamInfo]:
        entries = [entry for entry in self._entries() if entry.id <= until]
        return entries[::-1][:count], self._look()

    def _entries(self) -> list[Entry]:
        self.attempts.append(asyncio.get_running_loop().time())
        if self.error is not None:
            raise self.error
        return [read_entry("s", b"%d-0" % n, [b"type", b"a", b"data", b"1"]) for n in range(1, self.count + 1)]

    def _look(self) -> StreamInfo:
        return StreamInfo(self.count, make_id(self.count), make_id(1), self.count)


@pytest.fixture
def parts() -> tuple[Reader, Source, Observer]:
    source, observer = Source(), Observer()
    return Reader("s", source, Window(100, 1 << 20), observer, lambda: 0.0, lambda: 0.0), source, observer


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), RuntimeError("a defect")], ids=repr)
async def test_attempts_are_spaced_and_said_once(
    parts: tuple[Reader, Source, Observer], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    reader, source, observer = parts
    caplog.set_level(logging.INFO)
    reader.start()
    assert await reader.ready(20)
    source.error = error
    began = len(source.attempts)
    await wait_until(lambda: len(source.attempts) >= began + 8, patience=60)
    pauses = [later - at for at, later in zip(source.attempts[began:], source.attempts[began + 1 :], strict=False)]
    # With no jitter a pause is half its ceiling; it doubles to half a second. Slow machines only make it longer.
    assert sum(pauses) > 1.0
    assert all(later > 0.015 for later in pauses)
    source.error = None
    source.count = 5
    await wait_until(lambda: reader.window.tail == make_id(5))
    await reader.stop()
    if not isinstance(error, RuntimeError):
        assert [line for line in observer.told if not line.startswith("read")] == ["regained", "lost", "regained"]
        assert [record.message.split()[0] for record in caplog.records] == ["redis.lost", "redis.regained"]
    assert [entry.id for entry in reader.window.after(make_id(0), 99)] == [make_id(n) for n in range(1, 6)]


async def test_it_always_reads_from_a_concrete_id(parts: tuple[Reader, Source, Observer]) -> None:
    reader, source, _ = parts
    reader.start()
    await wait_until(lambda: len(source.asked_after) > 2)
    source.count = 9
    await wait_until(lambda: reader.window.tail == make_id(9))
    await reader.stop()
    assert source.asked_after[0] == make_id(3)
    assert sorted(source.asked_after) == source.asked_after and MAX not in source.asked_after


async def test_not_ready_while_redis_was_never_there(parts: tuple[Reader, Source, Observer]) -> None:
    reader, source, _ = parts
    source.error = ConnectionRefusedError()
    reader.start()
    assert not await reader.ready(0.05)
    source.error = None
    assert await reader.ready(20)
    await reader.stop()
