"""TLS of the HTTP client: whom it trusts, and how each failure is called."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from gateway.bridge.egress import EgressGuard
from gateway.bridge.http.resolver import Address, Resolver
from gateway.bridge.sender import Sender
from tests.bridge.receiver import OK
from tests.bridge.rig import LOCAL
from tests.support.certificate import make_pair


class Local(Resolver):
    """Every name is this machine."""

    def known(self, host: str, port: int) -> list[Address] | None:
        return [Address(socket.AF_INET, ("127.0.0.1", port))]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of ``receiver.example`` and 127.0.0.1, vouched for by itself."""
    names = x509.DNSName("receiver.example"), x509.IPAddress(ip_address("127.0.0.1"))
    path = tmp_path_factory.mktemp("tls") / "receiver.pem"
    path.write_bytes(b"".join(make_pair(*names)))
    return path


class TlsReceiver:
    """Answers 204 over TLS; `names` are what clients asked for, `ended` whether they said goodbye."""

    def __init__(self, certificate: Path) -> None:
        self.names: list[str | None] = []
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(certificate)
        self.tls.sni_callback = lambda connection, name, context: self.names.append(name)

    async def start(self) -> TlsReceiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                writer.write(OK)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


@pytest.fixture
async def tls_receiver(certificate: Path) -> AsyncIterator[TlsReceiver]:
    it = await TlsReceiver(certificate).start()
    yield it
    await it.stop()


async def test_a_receiver_that_somebody_vouches_for(tls_receiver: TlsReceiver, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    sender = Sender(EgressGuard(LOCAL), tls=trusting, resolver=Local())
    for host in ("receiver.example", "receiver.example.", "127.0.0.1"):
        first, second = [
            await sender.post(f"https://{host}:{tls_receiver.port}/", {}, b"x" * 100_000, 10) for _ in range(2)
        ]
        assert (first.status, first.error, first.detail) == (204, None, "")
        assert (first.phases.connect or 0) < (first.phases.tls or 0) < (first.phases.first_byte or 0)
        assert (second.status, second.phases.tls) == (204, None)
    # An address has no place in SNI (RFC 6066, 3); the dot at the end of a name neither.
    assert tls_receiver.names == ["receiver.example", "receiver.example", None]
    assert tls_receiver.connections == 3
    await sender.close()


async def test_a_name_that_is_not_in_the_certificate(tls_receiver: TlsReceiver, certificate: Path) -> None:
    sender = Sender(EgressGuard(LOCAL), tls=ssl.create_default_context(cafile=str(certificate)), resolver=Local())
    attempt = await sender.post(f"https://another.example:{tls_receiver.port}/", {}, b"{}", 10)
    assert (attempt.status, attempt.error) == (None, "tls")
    assert attempt.detail.startswith("SSLCertVerificationError")
    assert attempt.phases.connect is not None
    assert attempt.phases.tls is None
    await sender.close()


async def test_a_receiver_that_nobody_vouches_for(tls_receiver: TlsReceiver) -> None:
    sender = Sender(EgressGuard(LOCAL), resolver=Local())
    attempt = await sender.post(f"https://receiver.example:{tls_receiver.port}/", {}, b"{}", 10)
    assert (attempt.status, attempt.error) == (None, "tls")
    assert attempt.detail.startswith("SSLCertVerificationError")
    await sender.close()


async def test_a_reset_in_the_handshake() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    sender = Sender(EgressGuard(LOCAL), resolver=Local())
    attempt = await sender.post(f"https://a.example:{server.sockets[0].getsockname()[1]}/", {}, b"{}", 10)
    assert (attempt.status, attempt.error) == (None, "tls")
    await sender.close()
    server.close()
