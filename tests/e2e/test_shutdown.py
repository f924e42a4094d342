"""How ``gateway serve`` ends."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.wire import subscribed


@pytest.mark.parametrize(("number", "drain_seconds"), [(signal.SIGTERM, 0.1), (signal.SIGINT, 3600)])
@pytest.mark.parametrize("open_streams", [0, 3])
def test_one_signal_ends_it_with_a_farewell_and_no_trace(
    tmp_path: Path, broker: Broker, number: int, drain_seconds: float, open_streams: int
) -> None:
    """SIGTERM spreads the ends over the drain time; Ctrl-C does not wait for that."""
    gateway = GatewayProcess(tmp_path, broker.url, drain_seconds=drain_seconds)
    with ExitStack() as stack:
        stack.callback(gateway.kill)
        wires = [stack.enter_context(subscribed(gateway.port))[0] for _ in range(open_streams)]
        gateway.child.signal(number)
        bodies = [b"".join(iter(wire.chunk, b"")) for wire in wires]
        assert gateway.child.wait() == 0
        gateway.check_log()
    assert all(b"event: gateway.closing\n" in body for body in bodies)
