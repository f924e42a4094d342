"""The gateway itself, as ``gateway serve`` runs it, reading the load test's Redis."""

from __future__ import annotations

import re
import sys

from loadtest.peers import Peer
from loadtest.rig.process import ProcessTree, status
from loadtest.rig.publish import RedisPublisher

_ENVELOPE = (
    '{"id":"1735732800000-0","stream":"events","channel":"load","type":"load.tick","time":"2025-01-01T12:00:00.000Z",'
    '"data":}'
)


class Server(Peer):
    name = "gateway"
    about = "gateway serve"
    can = frozenset({"fanout", "channels", "all", "resume", "idle", "durable", "keys"})

    @property
    def overhead(self) -> int:  # type: ignore[override]
        frame = len("event: load.tick\ndata: \nid: 1735732800000-0\n\n")
        return frame if self.options.format == "raw" else frame + len(_ENVELOPE)

    async def start(self) -> None:
        command = [sys.executable, "-m", "gateway", "serve", "--port", "0"]
        if self.options.embedded:
            command += ["--embedded-port", "0", "--data-dir", str(self.site.folder / "gateway")]
        else:
            command += ["--redis-url", self.site.broker.url]
        command += ["--workers", str(self.options.workers)] if self.options.workers > 1 else []
        command += self.options.extra
        env = {
            "GATEWAY_HEARTBEAT": str(self.options.heartbeat),
            "GATEWAY_DRAIN_SECONDS": "0",
            "GATEWAY_BRIDGE": "false",
            # All connections come from one address, and nobody is logged in.
            "GATEWAY_MAX_CONNECTIONS_PER_IP": "0",
            "GATEWAY_MAX_CONNECTIONS_PER_PRINCIPAL": "0",
        }
        if self.options.window is not None:
            env["GATEWAY_WINDOW_EVENTS"] = str(self.options.window)
        env |= self.options.env
        process = ProcessTree(command, cores=self.site.cores, log=self.site.folder / "gateway.log", env=env)
        self.process = process
        # Ready means that the window is filled, which takes its time with very many events.
        await process.wait_until(lambda: self._find_port(process.output()) and status(self.port, "/readyz") == 200, 60)

    def _find_port(self, output: str) -> bool:
        """The port is free, so it is the gateway's own first lines that tell it."""
        match = re.search(r"http://127\.0\.0\.1:(\d+)", output)
        self.port = int(match[1]) if match else 0
        return match is not None

    async def publisher(self) -> RedisPublisher:
        return await self.site.broker.publisher()

    def path(self, channel: str | None = None, since: str | None = None) -> str:
        query = f"/api/events?format={self.options.format}"
        query += f"&channel={channel}" if channel is not None else ""
        return query + (f"&since={since}" if since is not None else "")
