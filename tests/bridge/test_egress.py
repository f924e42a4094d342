"""Every spelling of an address that must not be dialled, up to a listener that hears nothing."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.bridge import egress
from gateway.bridge.egress import EgressGuard
from gateway.bridge.http.resolver import Address, Resolver
from gateway.bridge.sender import Sender

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


class Scripted(Resolver):
    """Answers what the test says, a list a call, and remembers nothing."""

    def __init__(self, *answers: list[str]) -> None:
        super().__init__()
        self.answers = list(answers)

    def known(self, host: str, port: int) -> list[Address] | None:
        return None

    async def resolve(self, host: str, port: int) -> list[Address]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            Address(socket.AF_INET6, (it, port, 0, 0)) if ":" in it else Address(socket.AF_INET, (it, port))
            for it in answer
        ]


@asynccontextmanager
async def sending(guard: EgressGuard, resolver: Resolver | None = None) -> AsyncIterator[Sender]:
    sender = Sender(guard, allow_http=True, resolver=resolver)
    yield sender
    await sender.close()


SPELLINGS = [
    "127.0.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "127.1", "017700000001", "0177.0.0.1", "①②⑦.0.0.1", "0",
    "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::1]", "[::]", "127.0.0.1.", "LOCALHOST",
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_loopback_is_dialled(host: str, scheme: str, listener: Listener) -> None:
    async with sending(EgressGuard()) as sender:
        attempt = await sender.post(f"{scheme}://{host}:{listener.port}/", {}, b"x", 5)
    # Some resolvers know some of these spellings, and some do not.
    assert attempt.error in ("blocked", "dns")
    assert not listener.heard


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "①②⑦.0.0.1"])
async def test_the_listener_would_hear_it(host: str, listener: Listener) -> None:
    async with sending(EgressGuard(["127.0.0.0/8"])) as sender:
        attempt = await sender.post(f"http://{host}:{listener.port}/", {}, b"x", 0.3)
    assert attempt.error == "timeout"
    assert listener.heard


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["::1", "127.0.0.1"], ["::ffff:127.0.0.1", "10.0.0.1"]])
async def test_all_answers_are_private(answers: list[str], listener: Listener) -> None:
    async with sending(EgressGuard(), Scripted(answers)) as sender:
        attempt = await sender.post(f"http://receiver.example:{listener.port}/", {}, b"x", 5)
    assert attempt.error == "blocked"
    assert attempt.phases.dns is not None
    assert attempt.phases.connect is None
    assert not listener.heard


async def test_a_name_that_turns_private_after_it_was_public(listener: Listener) -> None:
    class Watching(EgressGuard):
        """Stands in for the Internet: the documentation's addresses are open, and nobody is there."""

        def open_socket(self, family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
            asked.append(sockaddr[0])
            return super().open_socket(family, sockaddr)

    asked: list[str] = []
    async with sending(Watching(["192.0.2.0/24"]), Scripted(["192.0.2.1"], ["127.0.0.1"])) as sender:
        url = f"http://rebind.example:{listener.port}/"
        errors = [(await sender.post(url, {}, b"x", 0.2)).error for _ in range(2)]
    assert errors[0] in ("timeout", "connect")
    assert errors[1] == "blocked"
    assert asked == ["192.0.2.1", "127.0.0.1"]
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


def test_an_address_of_this_machine_is_denied_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    public = ip_address("8.8.8.8")
    assert EgressGuard().permits(public)
    assert not egress._is_ours(public)
    assert egress._is_ours(ip_address("127.0.0.1"))
    monkeypatch.setattr(egress, "_is_ours", lambda address: address == public)
    assert not EgressGuard().permits(public)
