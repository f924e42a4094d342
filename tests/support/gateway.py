"""A real gateway in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

from tests.support.child import Child, free_port
from tests.support.servegateway import READY
from tests.support.wait import wait_until_sync

Lane = Literal["direct", "plain"]
LANES: tuple[Lane, ...] = ("direct", "plain")

# Ids such as 1-0 lie in 1970: trimming by age would take the tests' own entries away.
DEFAULTS: dict[str, Any] = {"streams": ["events", "t.*"], "retention_age": 0, "retention_events": 0}


class GatewayProcess:
    """`lane`: see `tests.support.servegateway`. `settings` are those of `gateway.settings.Settings`."""

    def __init__(self, redis_url: str, log: Path, lane: Lane = "direct", **settings: Any) -> None:
        self.port = free_port()
        self.lane = lane
        self._settings = {**DEFAULTS, "redis_url": redis_url, "port": self.port, **settings}
        self._log = log
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def child(self) -> Child:
        assert self._child is not None, "the gateway was never started"
        return self._child

    def start(self) -> GatewayProcess:
        """Start, or start again, on the same port; return when it listens."""
        said = len(self.log_text())
        words = [sys.executable, "-m", "tests.support.servegateway", self.lane, json.dumps(self._settings)]
        self._child = Child(words, self._log)
        wait_until_sync(lambda: READY in self.log_text()[said:] or self._ended(), "the gateway is ready", 30)
        return self

    def kill(self) -> None:
        self.child.kill()

    def stop(self) -> int:
        """End it politely; answers its exit code."""
        return self._child.stop() if self._child is not None else 0

    def log_text(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _ended(self) -> bool:
        assert self.child.running, f"the gateway ended at once:\n{self.log_text()}"
        return False
