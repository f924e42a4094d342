"""A gateway that is closed: one API key, made as ``gateway keys create`` makes it."""

from __future__ import annotations

import secrets
import time

from gateway.access.keys import KeyStore
from gateway.backend.connection import connect
from loadtest.peers import Peer
from loadtest.rig.process import status
from loadtest.rig.wait import until


async def close(peer: Peer) -> None:
    """Make a key that may subscribe; `peer` sends it from now on. Raises `RuntimeError` when the gateway stays open."""
    client = connect(peer.site.broker.url, name="loadtest")
    try:
        _, peer.token = await KeyStore(client, time.time, secrets.token_bytes).create("loadtest", ["subscribe"], {})
    finally:
        await client.aclose()
    if not await until(lambda: status(peer.port, peer.path()) == 401, 10, every=0.1):
        raise RuntimeError("there is a key, and the gateway still lets everybody in")
