"""How ``gateway serve`` ends."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.wire import subscribed


@pytest.mark.parametrize("open_streams", [0, 3])
def test_sigterm_ends_every_stream_with_a_farewell(tmp_path: Path, broker: Broker, open_streams: int) -> None:
    gateway = GatewayProcess(tmp_path, broker.url, drain_seconds=0.1)
    with ExitStack() as stack:
        stack.callback(gateway.kill)
        wires = [stack.enter_context(subscribed(gateway.port))[0] for _ in range(open_streams)]
        gateway.child.signal(signal.SIGTERM)
        bodies = [b"".join(iter(wire.chunk, b"")) for wire in wires]
        assert gateway.child.wait() == 0
        gateway.check_log()
    assert all(b"event: gateway.closing\n" in body for body in bodies)


@pytest.mark.parametrize("open_streams", [0, 3])
def test_ctrl_c_leaves_at_once_without_a_trace(tmp_path: Path, broker: Broker, open_streams: int) -> None:
    gateway = GatewayProcess(tmp_path, broker.url, drain_seconds=60)
    with ExitStack() as stack:
        stack.callback(gateway.kill)
        wires = [stack.enter_context(subscribed(gateway.port))[0] for _ in range(open_streams)]
        gateway.child.signal(signal.SIGINT)
        assert gateway.child.wait() == 0
        gateway.check_log()
        for wire in wires:
            # cut off, not ended: no client may take the body for complete
            assert not wire.rest().endswith(b"0\r\n\r\n")
