"""``gateway publish`` against a real gateway: one event, many, and again after a failure."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.child import free_port
from tests.support.command import Command, Serve, environment, run
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync

# Each starts several processes, which a busy machine makes slow.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve("--streams", "events,orders", cwd=tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def client(gateway: Serve) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(gateway.redis_url, decode_responses=True) as client:
        client.flushall()
        yield client


def _publish(gateway: Serve, *arguments: str, cwd: Path, stdin: str | bytes = b"") -> subprocess.CompletedProcess[str]:
    return run("publish", *arguments, cwd=cwd, env={"GATEWAY_URL": gateway.url}, stdin=stdin)


def test_one_event_and_its_id(tmp_path: Path, gateway: Serve, client: redis.Redis) -> None:
    data = '{"big": 9007199254740993, "one": 1.0, "b":1,"a":2, "é": "\\u00e9"}'
    options = ["--channel", "c", "--tenant", "t", "--time", "2025-01-01T12:00:00Z"]
    done = _publish(gateway, "sms.sent", data, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    ((event_id, fields),) = client.xrange("events")
    assert done.stdout == f"{event_id}\n"
    assert fields["data"] == data
    assert fields == {
        "type": "sms.sent",
        "data": data,
        "channel": "c",
        "tenant": "t",
        "time": "2025-01-01T12:00:00Z",
    }
    done = _publish(gateway, "a.b", "1e400", "--stream", "orders", "--json", cwd=tmp_path)
    ((event_id, fields),) = client.xrange("orders")
    assert json.loads(done.stdout) == {"ids": [event_id]}
    assert fields == {"type": "a.b", "data": "1e400"}


@pytest.mark.parametrize(
    ("arguments", "stdin", "data"),
    [
        (["hello"], "", '"hello"'),
        (['say "hi"'], "", '"say \\"hi\\""'),
        ([], "", "null"),
        (["-"], '{\n "a": 1.50\n}\n', '{ "a": 1.50}'),
        (["-"], "two\nlines\n", '"two\\nlines"'),
        (["--", "-5"], "", "-5"),
    ],
)
def test_data(tmp_path: Path, gateway: Serve, client: redis.Redis, arguments: list[str], stdin: str, data: str) -> None:
    assert _publish(gateway, "a.b", *arguments, cwd=tmp_path, stdin=stdin).returncode == 0
    ((_, fields),) = client.xrange("events")
    assert fields["data"] == data


def test_the_same_key_stores_once(tmp_path: Path, gateway: Serve, client: redis.Redis) -> None:
    first, second = (_publish(gateway, "a.b", "1", "--idempotency-key", "k1", cwd=tmp_path) for _ in range(2))
    assert first.stdout == second.stdout != ""
    assert client.xlen("events") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["not a type", "1"],
        ["a.b", "1", "--channel", "no good"],
        ["a.b", "1", "--time", "yesterday"],
        ["a.b", "1", "--stream", "*"],
        ["a.b", "--ndjson", "-"],
        ["--ndjson", "no such file"],
        ["a.b", "1", "2"],
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = run("publish", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr


def test_a_refusal(tmp_path: Path, gateway: Serve) -> None:
    done = _publish(gateway, "gateway.fake", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {gateway.url} answered 422: ")
    assert "reserved" in done.stderr


def test_no_gateway(tmp_path: Path) -> None:
    done = run("publish", "a.b", "1", "--url", "http://127.0.0.1:1", "--wait", "0", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: cannot reach http://127.0.0.1:1: connection refused\n")


def _lines(count: int) -> str:
    return "".join(json.dumps({"type": "n.n", "data": {"n": n}}) + "\n" for n in range(count))


def _numbers(client: redis.Redis) -> list[int]:
    return [json.loads(fields["data"])["n"] for _, fields in client.xrange("events")]


def test_many_from_a_file_in_order(tmp_path: Path, gateway: Serve, client: redis.Redis) -> None:
    (tmp_path / "events.ndjson").write_text("\n" + _lines(1234) + "\n\n")
    done = _publish(gateway, "--ndjson", "events.ndjson", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _numbers(client) == list(range(1234))
    ids = [event_id for event_id, _ in client.xrange("events")]
    report = json.loads(done.stdout)
    assert (report["published"], report["first"], report["last"]) == (1234, ids[0], ids[-1])
    assert done.stderr == ""
    again = _publish(gateway, "--ndjson", "events.ndjson", "--idempotency-key", report["idempotency_key"], cwd=tmp_path)
    assert again.stdout.startswith("1234 events published in ")
    assert client.xlen("events") == 1234


def test_large_events_and_no_last_line_end(tmp_path: Path, gateway: Serve, client: redis.Redis) -> None:
    line = '{"type":"a.b","data":"' + "x" * 200_000 + '"}'
    done = _publish(gateway, "--ndjson", "-", cwd=tmp_path, stdin="\n".join([line] * 12))
    assert done.returncode == 0, done.stderr
    assert client.xlen("events") == 12


def test_nothing_to_publish(tmp_path: Path, gateway: Serve) -> None:
    done = _publish(gateway, "--ndjson", "-", cwd=tmp_path, stdin="\n\n")
    assert done.returncode == 0
    assert done.stdout.startswith("0 events published")


def test_a_bad_line_is_named_by_its_number(tmp_path: Path, gateway: Serve, client: redis.Redis) -> None:
    good = _lines(600).splitlines(keepends=True)
    good.insert(550, '{"type":"no good","data":1}\n')
    (tmp_path / "events.ndjson").write_text("\n" + "".join(good))
    done = _publish(gateway, "--ndjson", "events.ndjson", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: line 552: type: must be dot-separated")
    assert "500 events were published before; run again with --idempotency-key" in done.stderr
    assert client.xlen("events") == 500
    key = done.stderr.split("--idempotency-key ")[1].split()[0]
    (tmp_path / "events.ndjson").write_text(
        "\n" + "".join(good).replace("no good", "n.n").replace('data":1', 'data":{"n":-1}')
    )
    done = _publish(gateway, "--ndjson", "events.ndjson", "--idempotency-key", key, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _numbers(client) == [*range(550), -1, *range(550, 600)]


def test_a_pipe_is_published_as_it_comes(tmp_path: Path, gateway: Serve, client: redis.Redis) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "publish", "--ndjson", "-", "--url", gateway.url],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    for count in (1, 2, 3):
        process.stdin.write(b'{"type":"a.b","data":1}\n')
        process.stdin.flush()
        wait_until_sync(lambda count=count: client.xlen("events") == count, f"{count} events")
    out, _ = process.communicate()
    assert process.returncode == 0
    assert out.startswith(b"3 events published")


def test_a_killed_gateway_neither_loses_nor_doubles(tmp_path: Path) -> None:
    store = RedisServer("valkey", tmp_path / "redis").start()
    port = free_port()
    (tmp_path / "events.ndjson").write_text(_lines(30_000))
    serve = ("--port", str(port), "--redis-url", store.url)
    try:
        with store.client() as client:
            gateway = Serve(*serve, cwd=tmp_path, name="serve0")
            arguments = ("publish", "--ndjson", "events.ndjson", "--url", gateway.url, "--wait", "60")
            with Command(*arguments, cwd=tmp_path) as publish:
                for index in (1, 2):
                    before = client.xlen("events")
                    wait_until_sync(lambda before=before: client.xlen("events") > before + 2000, "some events")
                    gateway.stop(signal.SIGKILL)
                    gateway = Serve(*serve, cwd=tmp_path, name=f"serve{index}")
                wait_until_sync(lambda: publish.process.poll() is not None, "published", patience=60)
            gateway.stop()
            assert publish.process.returncode == 0, publish.err
            assert "trying again" in publish.err
            numbers = [json.loads(fields[b"data"])["n"] for _, fields in client.xrange("events")]
            assert numbers == list(range(30_000))
    finally:
        store.stop()


def test_a_progress_bar_on_a_terminal(tmp_path: Path, gateway: Serve, client: redis.Redis) -> None:
    (tmp_path / "events.ndjson").write_text(_lines(2000))
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "publish", "--ndjson", "events.ndjson", "--url", gateway.url],
        cwd=tmp_path,
        env={**environment(), "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(screen, 4096):
            shown += chunk
    except OSError:  # the terminal's other side has closed
        pass
    out, _ = process.communicate()
    os.close(screen)
    assert process.returncode == 0
    assert out.startswith(b"2000 events published")
    assert b"publishing" in shown
    assert b"\xe2\x94\x81" in shown  # the bar
