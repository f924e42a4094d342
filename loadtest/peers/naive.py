"""What is written first: sse-starlette with a queue for each client, fed by one task that reads the stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from loadtest.peers import Peer
from loadtest.rig.process import ProcessTree, answers, free_port
from loadtest.rig.publish import RedisPublisher

Message = dict[str, str]


def app() -> Starlette:
    """The application, for ``uvicorn --factory``."""
    queues: set[asyncio.Queue[Message]] = set()
    ping = float(os.environ["NAIVE_PING"])

    async def feed() -> None:
        redis = Redis.from_url(os.environ["NAIVE_REDIS"], decode_responses=True, socket_timeout=None)
        last = "$"
        while True:
            streams: Any = await redis.xread({"events": last}, count=1000, block=0)
            for _, entries in streams:
                for last, fields in entries:
                    message = {"event": fields["type"], "id": last, "data": fields["data"]}
                    for queue in queues:
                        queue.put_nowait(message)

    async def events(request: Request) -> EventSourceResponse:
        queue: asyncio.Queue[Message] = asyncio.Queue()
        queues.add(queue)

        async def content() -> AsyncIterator[Message]:
            try:
                while True:
                    yield await queue.get()
            finally:
                queues.discard(queue)

        return EventSourceResponse(content(), ping=ping, sep="\n")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(feed())
        yield
        task.cancel()

    return Starlette(routes=[Route("/events", events)], lifespan=lifespan)


class Server(Peer):
    name = "naive"
    about = "sse-starlette, a queue for each client, under uvicorn"
    can = frozenset({"fanout", "idle"})
    overhead = len("id: 1735732800000-0\nevent: load.tick\ndata: \n\n")
    target = "loadtest.peers.naive:app"

    async def start(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", "--factory", self.target, "--port", str(self.port)]
        command += ["--log-level", "warning", "--no-access-log", "--backlog", "4096", "--loop", "uvloop"]
        command += ["--http", "httptools", *self.options.extra]
        env = {"NAIVE_REDIS": self.site.broker.url, "NAIVE_PING": str(self.options.heartbeat), **self.options.env}
        log = self.site.folder / f"{self.name}.log"
        self.process = ProcessTree(command, cores=self.site.cores, log=log, env=env)
        await self.process.wait_until(lambda: answers(self.port))

    async def publisher(self) -> RedisPublisher:
        return await self.site.broker.publisher()

    def path(self, channel: str | None = None, since: str | None = None) -> str:
        return "/events"
