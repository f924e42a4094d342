"""Receivers of webhooks that keep books, and misbehave on a share of the requests until they are healed."""

from __future__ import annotations

import asyncio
import gzip
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_OK = b"HTTP/1.1 204 No Content\r\n\r\n"
_BOMB = gzip.compress(bytes(10 << 20))
_REQUESTS_OVER_TLS = 20
"""Then the connection is closed, so that there are handshakes to stall in."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Fault = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""Treats a request; answers whether the connection may be used again."""


def _answer(status: int, headers: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _says(answer: bytes) -> Fault:
    async def fault(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        return True

    return fault


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await reader.read(1)  # until the other side has enough
    return False


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.transport.abort()
    return False


def _repeats(head: bytes, part: bytes, pause: float) -> Fault:
    async def fault(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(head)
        while not writer.transport.is_closing() and not reader.at_eof():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        return False

    return fault


FAULTS: dict[str, tuple[float, bool, Fault]] = {
    "hang": (0.02, False, _hang),
    "reset": (0.2, False, _reset),
    "drip": (0.02, False, _repeats(b"HTTP/1.1 200 OK\r\nX: ", b"y", 1.0)),
    "drip body": (0.02, True, _repeats(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"z", 1.0)),
    "301": (0.2, False, _says(_answer(301, "Location: /elsewhere\r\n"))),
    "410": (0.002, False, _says(_answer(410))),
    "429": (0.2, False, _says(_answer(429, "Retry-After: 1\r\n"))),
    "500": (0.2, False, _says(_answer(500, "", b"no"))),
    "endless head": (0.05, False, _repeats(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 4000 + b"\r\n", 0.0)),
    "endless body": (
        0.05,
        True,
        _repeats(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"z" * 16384 + b"\r\n", 0.0),
    ),
    "bomb": (0.2, True, _says(_answer(200, "Content-Encoding: gzip\r\n", _BOMB))),
    "tls": (0.3, False, _hang),
}
"""Name -> (share of the requests, whether the sender may take it for delivered, what happens). ``tls`` stalls in the
handshake, on a share of the connections."""


class Target:
    """A receiver. `fault` is a key of `FAULTS`, or None for a healthy one."""

    def __init__(self, fault: str | None, luck: random.Random, tls: ssl.SSLContext | None = None) -> None:
        self.fault = fault
        self.accepted: dict[bytes, float] = {}
        """Webhook id -> when it was first answered with 2xx, Unix time."""
        self.again: list[tuple[bytes, float]] = []
        """What had been accepted and came once more, and when."""
        self.misbehaved = 0
        self.followed = 0
        """Requests where only a redirect leads."""
        self._luck = luck
        self._healed = False
        self._tls = tls if fault == "tls" else None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Target:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    def heal(self) -> None:
        """Misbehave no more."""
        self._healed = True

    def _is_bad(self, share: float) -> bool:
        # Once in any case, so that a short run has seen every fault.
        once = not self.misbehaved and len(self.accepted) >= 50
        return not self._healed and (once or self._luck.random() < share)

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    def missing(self, wanted: Iterable[bytes]) -> int:
        return sum(webhook_id not in self.accepted for webhook_id in wanted)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._tls is not None:
                if self._is_bad(FAULTS["tls"][0]):
                    self.misbehaved += 1
                    await _hang_raw(reader)
                    return
                await writer.start_tls(self._tls)
            left = _REQUESTS_OVER_TLS if self._tls is not None else 1 << 30
            while left and await self._request(reader, writer):
                left -= 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError, TimeoutError):
            pass  # cancelled: the loop ends, and asyncio would tell of every connection
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        await reader.readexactly(int(headers.get(b"content-length", b"0")))
        self.followed += b" /elsewhere " in lines[0]
        fault = FAULTS[self.fault] if self.fault is not None and self._tls is None else None
        if fault is None or not self._is_bad(fault[0]):
            self._accept(headers[b"webhook-id"])
            writer.write(_OK)
            return True
        self.misbehaved += 1
        if fault[1]:
            self._accept(headers[b"webhook-id"])
        return await fault[2](reader, writer)

    def _accept(self, webhook_id: bytes) -> None:
        now = time.time()
        if self.accepted.setdefault(webhook_id, now) != now:
            self.again.append((webhook_id, now))


async def _hang_raw(reader: asyncio.StreamReader) -> None:
    """Read what comes, answer nothing, until the other side has enough."""
    with suppress(ConnectionError):
        while await reader.read(4096):
            pass


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1, and the file of the authority to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, secret = folder / "authority.pem", folder / "key.pem"
    authority.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, secret)
    return context, authority
