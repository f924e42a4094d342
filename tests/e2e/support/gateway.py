"""A gateway process under test."""

from __future__ import annotations

import json
import re
import signal
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.child import Child, free_port
from tests.support.command import environment
from tests.support.wait import wait_until_sync

_TRACE = re.compile(r"Traceback| ERROR | CRITICAL |exception was never retrieved|was never awaited|destroyed but it is")


@dataclass(frozen=True)
class Holding:
    """What the process holds at one moment. `tasks` are the names of their coroutines; `connections` accepted ones."""

    tasks: tuple[str, ...]
    connections: int
    subscribers: int
    resident: int


class GatewayProcess:
    """``gateway serve`` on a port that it keeps over restarts. `settings` become ``GATEWAY_<NAME>``.

    With `probed` it is the same server started from a script that can be asked for its `Holding`.
    """

    def __init__(self, folder: Path, redis_url: str, *, probed: bool = False, **settings: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.events = f"{self.url}/api/events"
        self._log = folder / "gateway.log"
        self._told = folder / "holding.jsonl"
        self._redis_url, self._probed, self._settings = redis_url, probed, settings
        self._child: Child | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        if self._probed:
            settings = {**self._settings, "port": self.port, "redis_url": self._redis_url}
            command = ["-m", "tests.e2e.support.probed", str(self._told), json.dumps(settings)]
            env = environment()
        else:
            command = ["-m", "gateway", "serve", "--port", str(self.port), "--redis-url", self._redis_url]
            env = environment({f"GATEWAY_{name.upper()}": str(value) for name, value in self._settings.items()})
        self._child = Child([sys.executable, *command], self._log, env)
        wait_until_sync(self._is_ready, "the gateway is ready", 60)

    def _is_ready(self) -> bool:
        assert self.child.running, f"the gateway ended at once: {self.log()}"
        try:
            return bool(self.ready()["status"] == "ready")
        except OSError:
            return False

    @property
    def child(self) -> Child:
        assert self._child is not None, "the gateway does not run"
        return self._child

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        code = self.child.stop()
        self._child = None
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self._child = None

    def close(self) -> None:
        """End it if it runs, and hold that it logged no error in all its lives."""
        if self._child is not None:
            assert self._child.running, f"the gateway died: {self.log()[-3000:]}"
            self.stop()
        self.check_log()

    def check_log(self) -> None:
        """No error, no trace."""
        assert not _TRACE.search(self.log()), self.log()[-5000:]

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace")

    def ready(self) -> dict[str, Any]:
        """The body of ``/readyz``."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.load(error))

    def subscriptions(self) -> int:
        """How many are open."""
        return int(self.ready()["connections"])

    def holding(self) -> Holding:
        """What it holds now. Needs `probed`."""
        before = self._answers()
        self.child.signal(signal.SIGUSR1)
        wait_until_sync(lambda: len(self._answers()) > len(before), "the process tells what it holds", 60)
        facts = json.loads(self._answers()[-1])
        return Holding(tuple(facts["tasks"]), self._accepted(), facts["subscribers"], facts["resident"])

    def _answers(self) -> list[str]:
        return self._told.read_text().split("\n")[:-1] if self._told.exists() else []

    def _accepted(self) -> int:
        """Accepted connections that this side has not closed: ESTABLISHED or CLOSE_WAIT (proc(5), net/tcp)."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(f":{self.port:04X}") and row[3] in ("01", "08") for row in rows)
