"""A bridge as a child process: ``python -m tests.bridge.child REDIS_URL [FAILPOINT COUNT [ACTION]]``.

With a failpoint it dies or stalls when it comes there for the COUNT-th time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from gateway.bridge.parts import Pace
from tests.bridge.rig import Rig

READY = "ready"
LEASE = 2.0


def failing(name: str, count: int, action: str = "die") -> object:
    """``die``: SIGKILL. ``stall``: nothing happens in this process until its leases have expired; then it goes on.
    ``stall-die``: until then, and then SIGKILL."""
    left = [count]

    def failpoint(place: str) -> None:
        if place == name:
            left[0] -= 1
            if left[0] == 0:
                if "stall" in action:
                    time.sleep(3 * LEASE)
                if "die" in action:
                    os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


async def main(url: str, *failpoint: str) -> None:
    options = {"failpoint": failing(failpoint[0], int(failpoint[1]), *failpoint[2:])} if failpoint else {}
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Rig(url, pace=Pace(lease=LEASE, sweep=0.5, patience=1.5), alone=False, **options):
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        await over.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
