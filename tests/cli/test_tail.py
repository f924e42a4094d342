"""``gateway tail`` against real gateways that are stopped, killed and started again under it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from gateway.backend.datadir import DataDir
from tests.support.child import free_port
from tests.support.command import Command, Serve, environment, run
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync

# Each starts several processes, which a busy machine makes slow.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer("valkey", tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture
def gateway(tmp_path: Path, store: RedisServer) -> Iterator[Serve]:
    with Serve("--redis-url", store.url, cwd=tmp_path) as running:
        yield running


def _add(store: RedisServer, *types: str, data: str = "1", **fields: str) -> list[str]:
    with store.client() as client:
        return [client.xadd("events", {"type": type_, "data": data, **fields}).decode() for type_ in types]


def _ids(command: Command) -> list[str]:
    return [json.loads(line)["id"] for line in command.lines()]


def _tail(gateway: Serve, *arguments: str, cwd: Path, name: str = "tail") -> Command:
    return Command("tail", "--url", gateway.url, *arguments, cwd=cwd, name=name)


class _Producer:
    """Adds numbered events from another thread until it is stopped; what Redis did not take is not repeated."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(port=port, socket_timeout=2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[str] = []

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.002):
            number += 1
            try:
                event_id = self._client.xadd("events", {"type": "n.n", "data": str(number)})
            except redis.RedisError:
                continue
            self.acknowledged.append(event_id.decode())

    def wait_for(self, more: int) -> None:
        goal = len(self.acknowledged) + more
        wait_until_sync(lambda: len(self.acknowledged) >= goal, f"{goal} events published")

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self._client.close()


def test_it_prints_envelopes_of_what_matches(tmp_path: Path, gateway: Serve, store: RedisServer) -> None:
    old = _add(store, "sms.sent", "voice.failed", "sms.failed")
    with _tail(gateway, "sms.*", "--since", "earliest", cwd=tmp_path) as tail:
        tail.wait_for_lines(2)
        new = _add(store, "sms.received", data='{"big": 9007199254740993, "one": 1.0}', tenant="cust_1")
        lines = tail.wait_for_lines(3)
        assert _ids(tail) == [old[0], old[2], new[0]]
        assert '"tenant":"cust_1","data":{"big": 9007199254740993, "one": 1.0}}' in lines[2]
        assert tail.stop(signal.SIGINT) == 0
        assert tail.err == ""


def test_last_channel_format_and_count(tmp_path: Path, gateway: Serve, store: RedisServer) -> None:
    _add(store, "sms.sent", data='{"n":1}')
    _add(store, "sms.sent", data='{"n":2}', channel="other")
    _add(store, "sms.sent", data='{"n":3}')
    tail = ("tail", "--url", gateway.url)
    done = run(*tail, "--channel", "sms", "--last", "5", "--count", "2", "--format", "raw", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, ['{"n":1}', '{"n":3}'])
    done = run(*tail, "--last", "1", "-n", "1", "--text", cwd=tmp_path)
    assert done.stdout.split()[1:] == ["sms.sent", '{"n":3}']


def test_nothing_is_lost_or_repeated_while_the_gateway_is_killed_and_started(
    tmp_path: Path, store: RedisServer
) -> None:
    arguments = ("--port", str(free_port()), "--redis-url", store.url, "--retry", "100ms")
    gateway = Serve(*arguments, cwd=tmp_path, name="serve0")
    producer = _Producer(store.port)
    try:
        with _tail(gateway, "--since", "earliest", cwd=tmp_path) as tail, producer.running():
            tail.wait_for_lines(20)
            for index, signum in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), 1):
                gateway.stop(signum)
                tail.wait_for_err("lost http")
                producer.wait_for(50)
                gateway = Serve(*arguments, cwd=tmp_path, name=f"serve{index}")
                wait_until_sync(lambda index=index: tail.err.count("connected to") == index, "connected again")
                tail.wait_for_lines(len(tail.lines()) + 100)
            producer.wait_for(10)
            producer._stop.set()
            producer._thread.join()
            tail.wait_for_lines(len(producer.acknowledged))
            assert _ids(tail) == producer.acknowledged
            assert "gap" not in tail.err
            assert tail.err.count("lost http") == 3
    finally:
        gateway.stop()


def test_nothing_is_lost_or_repeated_while_the_embedded_valkey_is_killed(tmp_path: Path) -> None:
    options = ("--embedded-fsync", "always", "--retry", "100ms")
    with Serve(*options, cwd=tmp_path) as gateway:
        directory = DataDir(tmp_path / ".gateway")
        state = directory.read_state()
        assert state is not None
        producer = _Producer(state.port)
        with _tail(gateway, "--since", "earliest", cwd=tmp_path) as tail, producer.running():
            for count in (1, 2, 3):
                tail.wait_for_lines(len(tail.lines()) + 50)
                now = directory.read_state()
                assert now is not None
                os.kill(now.pid, signal.SIGKILL)
                wait_until_sync(lambda count=count: gateway.err.count("embedded.restarted") == count, "restarted")
                producer.wait_for(50)
            producer._stop.set()
            producer._thread.join()
            with redis.Redis.from_url(gateway.redis_url, decode_responses=True) as client:
                stored = [event_id for event_id, _ in client.xrange("events")]
            tail.wait_for_lines(len(stored))
            assert _ids(tail) == stored
            assert set(producer.acknowledged) <= set(stored)
            assert "gap" not in tail.err


def test_gaps_and_skipped_entries_are_told_on_stderr(tmp_path: Path, gateway: Serve, store: RedisServer) -> None:
    first = _add(store, "a.a", "a.b", "a.c")
    with store.client() as client:
        client.xtrim("events", maxlen=1, approximate=False)
        client.xadd("events", {"type": "no good", "data": "1"})
    with _tail(gateway, "--since", first[0], cwd=tmp_path) as tail:
        tail.wait_for_err("skipped entry")
        assert _ids(tail) == [first[2]]
        assert f"warning: gap: events of events after {first[0]} are gone (trimmed); going on from" in tail.err
        assert "of events: invalid_type" in tail.err


def test_a_refusal_is_final_and_says_why(tmp_path: Path, gateway: Serve) -> None:
    done = run("tail", "--url", gateway.url, "--stream", "secret", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {gateway.url} answered 404: stream secret is not served here\n"
    done = run("tail", "--url", gateway.url, "--since", "yesterday", cwd=tmp_path)
    assert done.returncode == 1
    assert f"error: {gateway.url} answered 400: since: must be " in done.stderr


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    done = run("tail", "--url", "http://127.0.0.1:1", "--wait", "0.5", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("error: cannot reach http://127.0.0.1:1: connection refused\n")


def test_a_gateway_that_comes_late(tmp_path: Path, store: RedisServer) -> None:
    port = free_port()
    first = _add(store, "a.a")
    with Command(
        "tail", "--since", "earliest", "--url", f"http://127.0.0.1:{port}", "--wait", "60", cwd=tmp_path
    ) as tail:
        tail.wait_for_err("cannot reach")
        with Serve("--port", str(port), "--redis-url", store.url, cwd=tmp_path):
            tail.wait_for_lines(1)
            assert _ids(tail) == first


def test_wrong_usage(tmp_path: Path) -> None:
    for arguments in (["--format", "xml"], ["--last", "0"], ["--nonsense"], ["--url", "nowhere"]):
        done = run("tail", *arguments, cwd=tmp_path)
        assert done.returncode == 2, arguments
        assert done.stdout == ""


def _piped(gateway: Serve, cwd: Path, reader: str) -> subprocess.CompletedProcess[str]:
    """``gateway tail | reader``; its stdout is the reader's, with tail's exit status as the last line."""
    tail = f"{sys.executable} -m gateway tail --since earliest --url {gateway.url}"
    script = f"{tail} | {reader}; echo ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


def test_it_ends_quietly_when_its_reader_goes_even_if_nothing_happens(
    tmp_path: Path, gateway: Serve, store: RedisServer
) -> None:
    ids = _add(store, "a.a", "a.b")
    done = _piped(gateway, tmp_path, "head -n 1")
    line, status = done.stdout.splitlines()
    assert json.loads(line)["id"] == ids[0]
    assert (status, done.stderr) == ("0", "")


def test_it_ends_quietly_in_the_middle_of_much_output(tmp_path: Path, gateway: Serve, store: RedisServer) -> None:
    with store.client() as client:
        pipe = client.pipeline()
        for _ in range(3000):
            pipe.xadd("events", {"type": "a.a", "data": '"' + "x" * 500 + '"'})
        pipe.execute()
    done = _piped(gateway, tmp_path, "head -n 1000 | wc -l")
    assert done.stdout.split() == ["1000", "0"]
    assert done.stderr == ""


def test_a_full_pipe_loses_nothing(tmp_path: Path, gateway: Serve, store: RedisServer) -> None:
    with store.client() as client:
        pipe = client.pipeline()
        for _ in range(3000):
            pipe.xadd("events", {"type": "a.a", "data": '"' + "x" * 500 + '"'})
        ids = [event_id.decode() for event_id in pipe.execute()]
    slow = "import sys,time\nfor i, line in enumerate(sys.stdin):\n  i % 500 or time.sleep(0.2)"
    read = slow + "\n  print(line.split(chr(34))[3])"
    done = _piped(gateway, tmp_path, f"head -n 3000 | {sys.executable} -c '{read}'")
    assert done.stdout.splitlines()[:-1] == ids
