"""``gateway serve`` as a user starts it: what it says, what it refuses, how it ends and comes back."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from gateway.backend.datadir import DataDir, find_embedded
from tests.support.command import Serve, run
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync

# Each starts several processes, which a busy machine makes slow.
pytestmark = pytest.mark.timeout(300)


def _events(url: str) -> list[dict[str, object]]:
    answer = httpx.get(f"{url}/api/events", headers={"Accept": "application/json"}, params={"limit": 1000})
    answer.raise_for_status()
    return list(answer.json()["events"])


def test_the_banner_says_what_runs_where_and_its_lines_work(tmp_path: Path) -> None:
    with Serve("--data-dir", "my data", cwd=tmp_path) as gateway:
        assert gateway.out.splitlines()[0].startswith("gateway ")
        assert f"dashboard  {gateway.url}/" in gateway.out
        assert re.search(
            rf"redis +{gateway.redis_url} +\(embedded Valkey \d.*, data in {tmp_path}/my data\)", gateway.out
        )
        assert re.search(r"streams +events\n", gateway.out)
        assert f"subscribe  curl -N {gateway.url}/api/events\n" in gateway.out
        for line in re.findall(r"curl http.* -d .*", gateway.out):
            assert os.system(f"{line} -s -o {tmp_path}/curl.out") == 0
        with redis.Redis.from_url(gateway.redis_url, decode_responses=True) as client:
            client.xadd("events", {"type": "sms.sent", "data": "1"})
        assert [event["type"] for event in _events(gateway.url)] == ["sms.delivered", "sms.sent"]
        assert gateway.err.count("warning:") == 1
        assert "no access is configured" in gateway.err
        assert gateway.stop() == 0
    assert find_embedded(tmp_path / "my data") is None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_while_someone_listens(tmp_path: Path, signum: signal.Signals) -> None:
    with Serve(cwd=tmp_path) as gateway, httpx.stream("GET", f"{gateway.url}/api/events") as response:
        assert b"retry:" in next(response.iter_raw())
        assert gateway.stop(signum) == 0
        assert "Traceback" not in gateway.err
        assert "ERROR" not in gateway.err


def test_events_survive_a_restart(tmp_path: Path) -> None:
    with Serve(cwd=tmp_path) as gateway:
        sent = httpx.post(f"{gateway.url}/api/events", json={"type": "a.b", "data": {"n": 1}}).json()["ids"]
    with Serve(cwd=tmp_path) as gateway:
        assert [event["id"] for event in _events(gateway.url)] == sent


def test_after_a_sigkill_it_starts_again_with_its_events(tmp_path: Path) -> None:
    with Serve(cwd=tmp_path) as gateway:
        sent = httpx.post(f"{gateway.url}/api/events", json={"type": "a.b", "data": {"n": 1}}).json()["ids"]
        assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    with Serve(cwd=tmp_path, name="again") as gateway:
        assert [event["id"] for event in _events(gateway.url)] == sent


def test_a_killed_valkey_comes_back_under_the_gateway(tmp_path: Path) -> None:
    with Serve(cwd=tmp_path) as gateway:
        first = httpx.post(f"{gateway.url}/api/events", json={"type": "a.b", "data": 1}).json()["ids"]
        state = DataDir(tmp_path / ".gateway").read_state()
        assert state is not None
        os.kill(state.pid, signal.SIGKILL)
        gateway.wait_for_err("embedded.restarted")

        def published() -> list[str]:
            answer = httpx.post(f"{gateway.url}/api/events", json={"type": "a.b", "data": 2})
            return list(answer.json()["ids"]) if answer.status_code == 201 else []

        second = wait_until_sync(published, "published again")
        assert [event["id"] for event in _events(gateway.url)] == first + second
        assert gateway.err.count("embedded.restarted") == 1


def test_two_gateways_do_not_share_a_data_dir(tmp_path: Path) -> None:
    with Serve(cwd=tmp_path) as gateway:
        second = run("serve", "--port", "0", cwd=tmp_path)
        assert (second.returncode, second.stdout) == (1, "")
        assert f"in use by another gateway (process {gateway.process.pid})" in second.stderr


def test_the_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("serve", "--port", str(port), "--embedded-port", "0", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr == f"error: port {port} on 127.0.0.1 is taken by another program; choose another with --port\n"
        )
        done = run("serve", "--port", "0", "--embedded-port", str(port), cwd=tmp_path)
        assert done.returncode == 1
        assert f"port {port}, wanted for the embedded Valkey, is taken" in done.stderr
    assert find_embedded(tmp_path / ".gateway") is None


def test_a_data_dir_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("serve", "--data-dir", "file/data", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write to data dir ")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer("redis", tmp_path / "redis").start()
    with server.client() as client:
        client.config_set("requirepass", "sesame")
        client.execute_command("AUTH", "sesame")
        client.config_set("maxmemory-policy", "allkeys-lru")
    yield server
    server.stop()


def test_a_redis_with_a_password(tmp_path: Path, locked: RedisServer) -> None:
    without = run("serve", "--port", "0", "--redis-url", locked.url, cwd=tmp_path)
    assert (without.returncode, without.stderr) == (1, f"error: Redis at {locked.url} needs a password\n")
    wrong = run("serve", "--port", "0", cwd=tmp_path, env={"REDIS_URL": f"redis://:secret@127.0.0.1:{locked.port}"})
    assert wrong.returncode == 1
    assert wrong.stderr == f"error: Redis at redis://:***@127.0.0.1:{locked.port} refused the user name or password\n"
    url = f"redis://:sesame@127.0.0.1:{locked.port}"
    with Serve("--redis-url", url, cwd=tmp_path) as gateway:
        assert "sesame" not in gateway.out + gateway.err
        assert f"redis://:***@127.0.0.1:{locked.port}" in gateway.out
        gateway.wait_for_err("eviction policy allkeys-lru can drop whole streams")
        gateway.wait_for_err("no persistence")
        assert "sesame" not in gateway.err


def test_no_redis_at_the_url(tmp_path: Path) -> None:
    done = run("serve", "--port", "0", "--redis-url", "redis://127.0.0.1:1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: Redis at redis://127.0.0.1:1 refused the connection: is it running?\n"


def test_other_addresses_need_access_or_consent(tmp_path: Path) -> None:
    done = run("serve", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert "refusing to serve 0.0.0.0 without access control" in done.stderr
    assert "--insecure" in done.stderr
    with Serve("--host", "0.0.0.0", "--insecure", cwd=tmp_path) as gateway:
        gateway.wait_for_err("no access is configured: whoever reaches 0.0.0.0")


def test_a_mistyped_variable_is_pointed_out(tmp_path: Path) -> None:
    with Serve(cwd=tmp_path, env={"GATEWAY_RETENTION_EVENT": "5"}) as gateway:
        gateway.wait_for_err("GATEWAY_RETENTION_EVENT is no setting; did you mean GATEWAY_RETENTION_EVENTS?")


def test_localhost_by_name_and_ipv6_are_loopback(tmp_path: Path) -> None:
    for index, host in enumerate(("localhost", "::1", "127.1.2.3")):
        with Serve("--host", host, cwd=tmp_path, name=f"serve{index}") as gateway:
            assert httpx.get(f"{gateway.url}/healthz").status_code == 200


def test_the_demo_publishes(tmp_path: Path) -> None:
    with Serve("--demo", "--demo-rate", "200", cwd=tmp_path) as gateway:
        assert re.search(r"demo +200 events a second on events\n", gateway.out)
        with redis.Redis.from_url(gateway.redis_url) as client:
            wait_until_sync(lambda: client.xlen("events") >= 50, "50 events")
        assert len({event["type"] for event in _events(gateway.url)}) > 8
