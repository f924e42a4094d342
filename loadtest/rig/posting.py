"""The bare loop beside the bridge: ``python -m loadtest.rig.posting URL COUNT CONCURRENCY SIZE``.

aiohttp alone, the same signed bodies, no ledger, no log, no guard. Prints posts a second and CPU per post as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp
import uvloop

from gateway.bridge.dialects import STANDARD_WEBHOOKS
from gateway.bridge.signature import Signer, make_secret


async def main(url: str, count: int, concurrency: int, size: int) -> None:
    signer = Signer(STANDARD_WEBHOOKS, [make_secret(STANDARD_WEBHOOKS, b"s" * 32)])
    body = b'{"data":"%b"}' % (b"x" * size)
    numbers = iter(range(count))

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            name = f"msg_{number}"
            headers = {"content-type": "application/json", "webhook-id": name}
            headers |= signer.headers(name, time.time(), body)
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        begun, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
        elapsed, cpu = time.monotonic() - begun, time.process_time() - cpu
    sys.stdout.write(json.dumps({"deliveries_per_s": count / elapsed, "cpu_us": cpu / count * 1e6}) + "\n")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], *map(int, sys.argv[2:5])))
