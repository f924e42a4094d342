"""What the inspection says of real servers, and of ones that only pretend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.backend.inspection import RedisProblem, RedisReport, inspect
from tests.support.redisserver import KINDS, Kind, RedisServer


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    kind: Kind = request.param
    running = RedisServer(kind, tmp_path / "redis", fsync="everysec").start()
    yield running
    running.stop()


def _texts(report: RedisReport) -> list[tuple[str, str]]:
    return [(finding.severity, finding.text) for finding in report.problems()]


async def test_a_fit_server(server: RedisServer) -> None:
    report = await inspect(server.url)
    assert report.product == server.kind.capitalize()
    assert (report.append_only, report.eviction_policy, report.role) == (True, "noeviction", "master")
    assert report.problems() == []


async def test_what_endangers_the_log_is_a_warning(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.setrange("ballast", 20 << 20, "x")
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
    problems = (await inspect(server.url)).problems()
    assert {finding.severity for finding in problems} == {"warning"}
    eviction, memory, persistence = (finding.text for finding in problems)
    assert eviction == "eviction policy allkeys-lru can drop whole streams when memory is full; set noeviction"
    assert memory.startswith("memory 2")
    assert persistence.startswith("no persistence: ")
    with server.client() as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("maxmemory", 0)
        client.config_set("save", "60 1")
    assert [text.partition(":")[0] for _, text in _texts(await inspect(server.url))] == ["snapshots only"]


async def test_a_replica_is_pointed_out(server: RedisServer) -> None:
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        assert ("warning", "read-only replica") in [
            (severity, text[10:27]) for severity, text in _texts(await inspect(server.url))
        ]


async def test_passwords_and_rights(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pass", "~*", "+@all", "-config")
        client.execute_command("ACL", "SETUSER", "nobody", "on", ">pass", "-@all")
        client.config_set("requirepass", "sesame")
    host = f"127.0.0.1:{server.port}"
    with pytest.raises(RedisProblem, match=rf"^Redis at redis://{host}/0 needs a password$"):
        await inspect(server.url)
    with pytest.raises(RedisProblem, match=rf"^Redis at redis://:\*\*\*@{host} refused the user name or password$"):
        await inspect(f"redis://:open@{host}")
    with pytest.raises(RedisProblem, match=r"does not let this user run"):
        await inspect(f"redis://nobody:pass@{host}")
    assert (await inspect(f"redis://:sesame@{host}")).append_only
    assert (await inspect(f"redis://reader:pass@{host}")).append_only


async def test_a_unix_socket(tmp_path: Path) -> None:
    with pytest.raises(RedisProblem, match=r"there is no socket at unix:///no/such\.sock"):
        await inspect("unix:///no/such.sock")


@asynccontextmanager
async def _pretender(*answers: bytes) -> AsyncIterator[str]:
    """A server that gives one answer to each command, the last one for ever."""
    queue = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for _ in range(data.count(b"\r\n*") + 1):
                writer.write(queue.pop(0) if len(queue) > 1 else queue[0])
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_version_that_is_too_old() -> None:
    # Commands of an inspection: CLIENT SETNAME, CLIENT SETINFO twice, PING six times, TIME, INFO, CONFIG GET.
    info = b"redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n"
    time = b"*2\r\n$10\r\n1735732800\r\n$1\r\n0\r\n"
    bulk = b"$%d\r\n%b\r\n" % (len(info), info)
    answers = [*[b"+OK\r\n"] * 3, *[b"+PONG\r\n"] * 6, time, bulk, b"*0\r\n"]
    async with _pretender(*answers) as url:
        report = await inspect(url, now=lambda: 1735732800.0)
    assert _texts(report) == [("error", "Redis 6.0.16 is too old: Redis 6.2 or later, or Valkey, is needed")]


async def test_not_a_redis() -> None:
    async with _pretender(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(RedisProblem, match=f"what answers at {url} is not a Redis"):
            await inspect(url)


async def test_nobody_there() -> None:
    with pytest.raises(RedisProblem, match="refused the connection: is it running"):
        await inspect("redis://127.0.0.1:1")
    with pytest.raises(RedisProblem, match=r"the host of redis://no\.such\.host\.invalid cannot be found"):
        await inspect("redis://no.such.host.invalid")
    with pytest.raises(RedisProblem, match="is not valid"):
        await inspect("redis://127.0.0.1:1?no_such_option=1")


async def test_a_frozen_server(server: RedisServer) -> None:
    server.freeze()
    try:
        with pytest.raises(RedisProblem, match="does not answer"):
            await inspect(server.url, timeout=0.2)
    finally:
        server.thaw()


async def test_clocks_that_disagree(server: RedisServer) -> None:
    report = await inspect(server.url, now=lambda: 1735732800.0)
    assert [text.partition(" s ")[2].partition(":")[0] for _, text in _texts(report)] == ["ahead of ours"]
