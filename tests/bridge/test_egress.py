"""Every spelling of an address that must not be dialled, up to a listener that hears nothing."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.bridge.egress import EgressBlocked, EgressGuard, ThreadResolver

DENIED = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.1", "192.0.0.9", "192.0.0.170",
    "192.0.2.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::169.254.169.254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:a9fe:a9fe::1", "2002:7f00:1::", "2001::1",
    "2001:db8::1", "fe80::1", "fe80::1%lo", "fec0::1", "fc00::1", "fd00:ec2::254", "3fff::1", "5f00::1",
    "100::1", "ff02::1", "4000::1", "8000::1",
    "::ffff:0:127.0.0.1",
]  # fmt: skip
PERMITTED = [
    "1.1.1.1",
    "93.184.216.34",
    "8.8.8.8",
    "::ffff:1.1.1.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
]


@pytest.mark.parametrize("address", DENIED)
def test_denied(address: str) -> None:
    assert not EgressGuard().permits(ip_address(address))


@pytest.mark.parametrize("address", PERMITTED)
def test_permitted(address: str) -> None:
    assert EgressGuard().permits(ip_address(address))


def test_networks_that_were_opened() -> None:
    guard = EgressGuard(["127.0.0.0/8", "fd00::/8"])
    assert guard.permits(ip_address("127.0.0.1"))
    assert guard.permits(ip_address("::ffff:127.0.0.1"))
    assert guard.permits(ip_address("fd00::1"))
    assert not guard.permits(ip_address("10.0.0.1"))
    with pytest.raises(ValueError, match="nonsense"):
        EgressGuard(["nonsense"])


class Listener:
    """A socket on loopback that knows whether anybody came."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.socket = socket.socket(family)
        self.socket.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.socket.listen()
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    @property
    def heard(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def listener() -> Any:
    it = Listener()
    yield it
    it.socket.close()


class Scripted(AbstractResolver):
    """Answers what the test says, a list a call."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        pass


async def client(guard: EgressGuard, resolver: AbstractResolver | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(
        resolver=resolver or ThreadResolver(), socket_factory=guard.socket_factory, use_dns_cache=False
    )
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


SPELLINGS = [
    "127.0.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "127.1", "017700000001", "0177.0.0.1", "①②⑦.0.0.1", "0",
    "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::1]", "[::]", "127.0.0.1.", "LOCALHOST",
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_loopback_is_dialled(host: str, listener: Listener) -> None:
    async for session in client(EgressGuard()):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await session.post(f"http://{host}:{listener.port}/", data=b"x", timeout=aiohttp.ClientTimeout(5))
    assert not listener.heard


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001"])
async def test_the_listener_would_hear_it(host: str, listener: Listener) -> None:
    async for session in client(EgressGuard(["127.0.0.0/8"])):
        with pytest.raises((aiohttp.ClientError, TimeoutError)):
            await session.post(f"http://{host}:{listener.port}/", timeout=aiohttp.ClientTimeout(0.3))
    assert listener.heard


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["::1", "127.0.0.1"], ["::ffff:127.0.0.1", "10.0.0.1"]])
async def test_the_error_keeps_its_type(answers: list[str], listener: Listener) -> None:
    async for session in client(EgressGuard(), Scripted(answers)):
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.post(f"http://receiver.example:{listener.port}/")
        assert isinstance(caught.value.os_error, EgressBlocked)
    assert not listener.heard


async def test_a_name_that_turns_private_after_it_was_public(listener: Listener) -> None:
    class Connects(EgressGuard):
        """Stands in for the Internet: the public address is this listener."""

        def socket_factory(self, addr_info: tuple[Any, ...]) -> socket.socket:
            dialled.append(addr_info[4][0])
            return super().socket_factory(addr_info)

    dialled: list[str] = []
    async for session in client(Connects(["192.0.2.0/24"]), Scripted(["192.0.2.1"], ["127.0.0.1"])):
        with pytest.raises((aiohttp.ClientError, TimeoutError)):
            await session.post(f"http://rebind.example:{listener.port}/", timeout=aiohttp.ClientTimeout(0.2))
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.post(f"http://rebind.example:{listener.port}/")
        assert isinstance(caught.value.os_error, EgressBlocked)
    assert dialled == ["192.0.2.1", "127.0.0.1"]
    assert not listener.heard


def test_addresses_of_this_machine_are_refused() -> None:
    guard = EgressGuard()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("1.1.1.1", 9))
        except OSError:
            pytest.skip("no route")
        ours = probe.getsockname()[0]
    assert not guard.permits(ip_address(ours))
