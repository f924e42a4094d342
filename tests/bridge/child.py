"""A bridge as a child process: ``python -m tests.bridge.child REDIS_URL [FAILPOINT COUNT]``.

With a failpoint it ends itself by SIGKILL when it comes there for the COUNT-th time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from gateway.bridge.parts import Pace
from tests.bridge.rig import Rig

READY = "ready"


def deadly(name: str, count: int) -> object:
    left = [count]

    def failpoint(place: str) -> None:
        if place == name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


async def main(url: str, *failpoint: str) -> None:
    options = {"failpoint": deadly(failpoint[0], int(failpoint[1]))} if failpoint else {}
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Rig(url, pace=Pace(lease=2.0, sweep=0.5, patience=1.5), alone=False, **options):
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        await over.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
