"""Publishing as any program with a Redis client would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.redisserver import RedisServer


class Broker:
    """A server of its own and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.server = RedisServer("valkey", folder).start()
        self.url = self.server.url
        self.client: Any = self.server.client()

    def add(self, type_: str, data: Any = None, *, stream: str = "events", **fields: str) -> str:
        """XADD with `data` as JSON; the id."""
        return self.raw_add({"type": type_, "data": json.dumps(data), **fields}, stream=stream)

    def raw_add(self, entry: dict[Any, Any], *, stream: str = "events", id: str = "*") -> str:
        """XADD of exactly these fields; the id."""
        return bytes(self.client.xadd(stream, entry, id=id)).decode()

    def length(self, stream: str = "events") -> int:
        """XLEN."""
        return int(self.client.xlen(stream))

    def stop(self) -> None:
        """End both."""
        self.client.close()
        self.server.kill()
