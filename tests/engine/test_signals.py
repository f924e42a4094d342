"""Signals at bad moments: before there is a loop, and while a part of the application does not end."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.support.child import Child
from tests.support.wait import wait_until_sync

_SERVER = """
import asyncio, os, signal, sys, warnings
import uvicorn
from gateway.server.run import Server

stuck = sys.argv[1] == "stuck"

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("ending", flush=True)
    while stuck:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
    await send({"type": "lifespan.shutdown.complete"})

class Config(uvicorn.Config):
    def get_loop_factory(self):
        if sys.argv[1] == "early":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return super().get_loop_factory()

async def drain(at_once):
    pass

server = Server(Config(app, port=0, lifespan="on", log_config=None), drain, lambda _: print("started", flush=True))
server.run()
print("over", flush=True)
"""


def _start(case: str, folder: Path) -> Child:
    return Child([sys.executable, "-X", "dev", "-c", _SERVER, case], folder / "server.log")


def test_two_signals_before_there_is_a_loop(tmp_path: Path) -> None:
    child = _start("early", tmp_path)
    try:
        assert child.wait() == 0, child.output()
        assert "over" in child.output()
        assert "Warning" not in child.output()
    finally:
        child.stop()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_what_does_not_end_cannot_hold_the_process(tmp_path: Path, second: signal.Signals) -> None:
    child = _start("stuck", tmp_path)
    try:
        wait_until_sync(lambda: "started" in child.output(), "it serves")
        child.signal(signal.SIGTERM)
        wait_until_sync(lambda: "ending" in child.output(), "it ends")
        child.signal(second)
        wait_until_sync(lambda: "cancelled" in child.output(), "it is given up")
        child.signal(second)
        wait_until_sync(lambda: not child.running, "it has left")
    finally:
        child.kill()
