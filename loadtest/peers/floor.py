"""The floor: a loop in C with one send() for each frame and subscriber. What is above it is the server's own work."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from loadtest.peers import Peer
from loadtest.rig.process import ProcessTree, answers, free_port
from loadtest.rig.publish import FramePublisher


def frame(number: int, data: bytes) -> bytes:
    return b"data: %b\nid: %016d\n\n" % (data, number)


class Server(Peer):
    name = "floor"
    about = "a C loop over epoll, one send() for each frame and subscriber"
    can = frozenset({"fanout"})
    overhead = len(frame(0, b""))

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("cc") else "there is no C compiler (cc)"

    async def start(self) -> None:
        program = self.site.folder / "floor"
        if not program.exists():
            source = Path(__file__).with_name("floor.c")
            build = ProcessTree(
                ["cc", "-O2", "-o", str(program), str(source)], cores=self.site.cores, log=self.site.folder / "cc.log"
            )
            await build.wait_for_end()
        self.port, self._control = free_port(), free_port()
        command = [str(program), str(self.port), str(self._control)]
        self.process = ProcessTree(command, cores=self.site.cores, log=self.site.folder / "floor.log")
        await self.process.wait_until(lambda: answers(self.port))

    async def publisher(self) -> FramePublisher:
        loop = asyncio.get_running_loop()
        _, publisher = await loop.create_connection(lambda: FramePublisher(frame), self.host, self._control)
        return publisher

    def path(self, channel: str | None = None, since: str | None = None) -> str:
        return "/"
