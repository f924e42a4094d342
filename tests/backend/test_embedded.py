"""The embedded Valkey, as a real process: what it keeps, how it dies and comes back, who may use its directory."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.backend.datadir import EmbeddedError, find_embedded
from gateway.backend.embedded import EmbeddedValkey
from gateway.backend.valkey import PortTaken
from tests.support.child import ROOT, free_port
from tests.support.wait import wait_until_sync


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "a dir 'with' \"quotes\" and ü"


@pytest.fixture
def embedded(data_dir: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(data_dir, port=0) as running:
        yield running


def _client(embedded: EmbeddedValkey) -> redis.Redis:
    return redis.Redis.from_url(embedded.state.url, decode_responses=True)


def _answers(embedded: EmbeddedValkey) -> bool:
    try:
        with _client(embedded) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not waited for by whoever inherited it does not."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(status) and not status.startswith("Z")


def test_it_listens_on_loopback_keeps_a_file_and_never_evicts(embedded: EmbeddedValkey) -> None:
    with _client(embedded) as client:
        config = client.config_get("*")
    assert config["bind"] == "127.0.0.1"
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "no")  # synced by `FileSync`
    assert (config["maxmemory-policy"], config["save"]) == ("noeviction", "")
    assert embedded.version.split(".")[0] >= "9"


def test_events_survive_a_stop(data_dir: Path) -> None:
    with EmbeddedValkey(data_dir, port=0) as first, _client(first) as client:
        event_id = client.xadd("events", {"type": "a.b", "data": "1"})
        port = first.state.port
    with EmbeddedValkey(data_dir, port=0) as second, _client(second) as client:
        assert client.xrange("events") == [(event_id, {"type": "a.b", "data": "1"})]
        assert second.state.port == port


def test_stop_ends_the_server_and_frees_the_directory(data_dir: Path) -> None:
    embedded = EmbeddedValkey(data_dir, port=0)
    embedded.start()
    pid = embedded.state.pid
    assert find_embedded(data_dir) == embedded.state.url
    embedded.stop()
    assert not _is_alive(pid)
    assert find_embedded(data_dir) is None


def test_killed_it_comes_back_on_its_port_with_its_events(
    embedded: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = embedded.state.url
    for count in (1, 2, 3):
        with _client(embedded) as client:
            client.xadd("events", {"n": count})
        killed = embedded.state.pid
        os.kill(killed, signal.SIGKILL)
        wait_until_sync(lambda killed=killed: embedded.state.pid != killed and _answers(embedded), "back")
        wait_until_sync(lambda count=count: len(caplog.records) == count, "a line in the log")
        with _client(embedded) as client:
            assert client.xlen("events") == count
    assert embedded.state.url == url
    assert all("embedded.restarted" in record.message for record in caplog.records)


def test_a_directory_belongs_to_one_gateway(embedded: EmbeddedValkey) -> None:
    with pytest.raises(EmbeddedError, match=rf"in use by another gateway \(process {os.getpid()}\)"):
        EmbeddedValkey(embedded.data_dir, port=0).start()
    with _client(embedded) as client:
        assert client.ping()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port}.*--embedded-port"):
            EmbeddedValkey(tmp_path / "a", port=port, fallback=False).start()
        with EmbeddedValkey(tmp_path / "b", port=port) as embedded:
            assert embedded.port_was_taken
            assert embedded.state.port != port
            fallback = embedded.state.port
        with EmbeddedValkey(tmp_path / "b", port=port) as again:
            assert again.state.port == fallback
    with EmbeddedValkey(tmp_path / "b", port=port) as free:
        assert (free.state.port, free.port_was_taken) == (port, False)


_START_AND_DIE = """
import os, sys
from pathlib import Path
from gateway.backend.embedded import EmbeddedValkey
embedded = EmbeddedValkey(Path(sys.argv[1]), port=0)
sys.platform = sys.argv[2]
embedded.start()
import redis
redis.Redis.from_url(embedded.state.url).xadd("events", {"n": 1})
print(embedded.state.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def _start_and_die(data_dir: Path, platform: str) -> int:
    """The process id of a server whose gateway was killed."""
    done = subprocess.run(
        [sys.executable, "-c", _START_AND_DIE, str(data_dir), platform],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_it_ends_with_a_killed_gateway_and_starts_again_at_once(data_dir: Path) -> None:
    pid = _start_and_die(data_dir, "linux")
    with EmbeddedValkey(data_dir, port=0) as embedded, _client(embedded) as client:
        assert embedded.state.pid != pid
        assert not embedded.adopted
        assert client.xlen("events") == 1
        assert not _is_alive(pid)


def test_one_that_was_left_behind_is_adopted(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = _start_and_die(data_dir, "a system without parent death signals")
    embedded = EmbeddedValkey(data_dir, port=0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "a system without parent death signals")
        embedded.start()
    try:
        assert (embedded.adopted, embedded.state.pid) == (True, pid)
        os.kill(pid, signal.SIGKILL)
        wait_until_sync(lambda: embedded.state.pid != pid and _answers(embedded), "started anew")
        with _client(embedded) as client:
            assert client.xlen("events") == 1
    finally:
        embedded.stop()
    assert not _is_alive(embedded.state.pid)


def test_an_adopted_one_is_stopped_too(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = _start_and_die(data_dir, "a system without parent death signals")
    monkeypatch.setattr(sys, "platform", "a system without parent death signals")
    embedded = EmbeddedValkey(data_dir, port=0)
    embedded.start()
    monkeypatch.undo()
    embedded.stop()
    wait_until_sync(lambda: not _is_alive(pid), "ended")


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot write to data dir .*file/data: Not a directory.*--data-dir"):
        EmbeddedValkey(tmp_path / "file" / "data").start()


def test_data_that_cannot_be_read_is_reported_with_the_log(data_dir: Path) -> None:
    with EmbeddedValkey(data_dir, port=0) as embedded, _client(embedded) as client:
        client.xadd("events", {"n": 1})
        client.xadd("events", {"n": 2})
    file = next((data_dir / "appendonlydir").glob("*.incr.aof"))
    file.write_bytes(b"nonsense\r\n" + file.read_bytes())
    with pytest.raises(EmbeddedError, match=r"ended at once \(its log is .*valkey\.log\): .*(Bad file format|AOF)"):
        EmbeddedValkey(data_dir, port=0).start()
    # The failure has not left the directory claimed.
    with pytest.raises(EmbeddedError, match="ended at once"):
        EmbeddedValkey(data_dir, port=0).start()


def test_a_platform_without_a_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(EmbeddedError, match=r"no embedded Valkey for this platform: .*riscv64.* --redis-url"):
        EmbeddedValkey(tmp_path, port=free_port()).start()


def test_no_server_is_found_where_none_ever_ran(tmp_path: Path) -> None:
    assert find_embedded(tmp_path) is None
