"""Syncing the append-only file from outside: what grew, once, and it goes on after an error."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from pathlib import Path

import pytest
import redis

from gateway.backend.embedded import EmbeddedValkey
from gateway.backend.filesync import FileSync
from gateway.backend.valkey import APPEND_DIR
from tests.support.wait import wait_until_sync


def test_what_grew_is_synced_once(tmp_path: Path) -> None:
    synced: list[str] = []
    files = FileSync(tmp_path, sync=lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    assert files.sync() == 0
    (tmp_path / "a.1.incr.aof").write_text("one")
    (tmp_path / "a.1.base.rdb").write_text("base")
    assert (files.sync(), files.sync()) == (1, 0)
    (tmp_path / "a.1.incr.aof").write_text("one two")
    (tmp_path / "a.2.incr.aof").write_text("three")
    assert files.sync() == 2
    assert sorted(synced) == ["a.1.incr.aof", "a.1.incr.aof", "a.2.incr.aof"]


def test_it_is_the_file_that_valkey_writes(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, port=0, fsync="no") as embedded:
        files = FileSync(tmp_path / APPEND_DIR)
        files.sync()
        with redis.Redis.from_url(embedded.state.url) as client:
            client.xadd("events", {"n": 1})
            assert files.sync() == 1
            client.bgrewriteaof()
            wait_until_sync(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "rewritten")
            client.xadd("events", {"n": 2})
            assert files.sync() == 1


def test_an_error_is_said_once_and_it_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.1.incr.aof").write_text("one")
    tries, enough = [0], threading.Event()

    def fail_three_times(fd: int) -> None:
        tries[0] += 1
        if tries[0] <= 3:
            raise OSError(errno.EIO, "Input/output error")
        enough.set()

    files = FileSync(tmp_path, interval=0.001, sync=fail_three_times)
    with caplog.at_level(logging.ERROR):
        files.start()
        assert enough.wait(20)
        files.stop()
    assert [record.message for record in caplog.records] == ["embedded.sync_failed [Errno 5] Input/output error"]


@pytest.mark.slow
def test_an_acknowledged_event_survives_a_kill(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, port=0) as embedded:
        acknowledged: list[bytes] = []
        for _ in range(5):
            killed = embedded.state.pid
            client = redis.Redis.from_url(embedded.state.url)
            goal = len(acknowledged) + 5000
            while len(acknowledged) < goal:
                pipe = client.pipeline(transaction=False)
                for _ in range(50):
                    pipe.xadd("events", {"type": "a.b", "data": "x" * 200})
                acknowledged += pipe.execute()
            os.kill(killed, signal.SIGKILL)
            client.close()
            wait_until_sync(lambda killed=killed: embedded.state.pid != killed and _length(embedded), "back")
        with redis.Redis.from_url(embedded.state.url) as client:
            assert [event_id for event_id, _ in client.xrange("events")] == acknowledged


def _length(embedded: EmbeddedValkey) -> int:
    try:
        with redis.Redis.from_url(embedded.state.url) as client:
            return int(client.xlen("events"))
    except redis.RedisError:
        return 0
