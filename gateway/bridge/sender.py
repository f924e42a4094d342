"""The HTTP client of the bridge: one POST, one verdict, whatever the receiver does.

One deadline covers name, connection, TLS, request and answer.  Of the body 16 KiB are read, as they come: nothing is
decompressed, so a small answer cannot become a large one.  Redirects, cookies and proxies of the environment are not
followed.  A status line is a verdict: a body that then hangs or never ends is cut off and changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientSession, TCPConnector
from aiohttp.abc import ResolveResult
from yarl import URL

from gateway.bridge.attempt import BODY_KEPT, Attempt, ErrorClass, Phases
from gateway.bridge.egress import EgressBlocked, EgressGuard, ThreadResolver

# Below the 5 s after which Node closes an idle connection: a POST on a connection that is just being closed is lost.
_KEEPALIVE: Final = 4.5
_DNS_CACHE: Final = 10
_HEADERS_KEPT: Final = 64

_phases: ContextVar[Phases] = ContextVar("phases")
"""Of the attempt that the present task makes. aiohttp's own tracing would cost each request a sixth of its time."""


class _Connector(TCPConnector):
    """Notes when a new connection is ready, TLS and all."""

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        connection = await super()._create_connection(req, traces, timeout)
        if req.is_ssl():
            _stamp("tls")
        return connection


class _Socket(socket.socket):
    """Notes when TCP is connected: event loops ask for the pending error when the socket has become writable."""

    def getsockopt(self, level: int, option: int, *rest: int) -> Any:
        value = super().getsockopt(level, option, *rest)
        if option == socket.SO_ERROR and value == 0:
            _stamp("connect")
        return value


def _watched(plain: socket.socket) -> socket.socket:
    return _Socket(plain.family, plain.type, plain.proto, plain.detach())


def _stamp(phase: str) -> None:
    phases = _phases.get(None)
    if phases is not None:
        setattr(phases, phase, time.monotonic() - phases.begun)


class _Resolver(ThreadResolver):
    """Notes when the name was resolved."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        _stamp("dns")
        return found


class Sender:
    """Posts webhooks over one connection pool. Use inside a running event loop; `close` it.

    `allow_http` opens plain http. `tls` replaces the default trust in public authorities.
    """

    def __init__(self, guard: EgressGuard, *, allow_http: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._allow_http = allow_http
        self._resolver = _Resolver()
        connector = _Connector(
            limit=0,
            limit_per_host=0,
            resolver=self._resolver,
            ttl_dns_cache=_DNS_CACHE,
            socket_factory=lambda addr_info: _watched(guard.socket_factory(addr_info)),
            keepalive_timeout=_KEEPALIVE,
            ssl=True if tls is None else tls,
        )
        self._session = ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=BODY_KEPT,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._resolver.close()

    async def post(self, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Attempt:
        """POST `body`; never raises but for cancellation. `timeout` is the deadline in seconds."""
        phases = Phases(time.monotonic())
        attempt = Attempt(url, time.time(), headers, phases)
        _phases.set(phases)
        try:
            if not self._may_use(url):
                raise EgressBlocked
            async with asyncio.timeout(timeout):
                await self._exchange(attempt, body)
        except Exception as error:
            if attempt.status is None:
                attempt.error = classify(error, phases)
                attempt.detail = _detail(error)
        phases.total = time.monotonic() - phases.begun
        return attempt

    def _may_use(self, url: str) -> bool:
        scheme = urlsplit(url).scheme
        return scheme == "https" or (scheme == "http" and self._allow_http)

    async def _exchange(self, attempt: Attempt, body: bytes) -> None:
        response = await self._session.post(
            URL(attempt.url, encoded=True),
            data=body,
            headers=attempt.request_headers,
            allow_redirects=False,
        )
        try:
            attempt.phases.first_byte = time.monotonic() - attempt.phases.begun
            attempt.status = response.status
            for name, value in response.headers.items():
                if len(attempt.response_headers) < _HEADERS_KEPT:
                    attempt.response_headers[name.lower()] = value[:1024]
            attempt.truncated = True
            attempt.body = await _read(response, attempt)
            attempt.truncated = not response.content.at_eof()
        finally:
            # Gives the connection back when the body was read to its end, else closes it.
            if attempt.truncated:
                response.close()
            else:
                response.release()


async def _read(response: aiohttp.ClientResponse, attempt: Attempt) -> bytes:
    content = response.content
    if content.at_eof():
        return b""
    body = b""
    while len(body) < BODY_KEPT:
        chunk = await content.read(BODY_KEPT - len(body))
        if not chunk:
            break
        body += chunk
        attempt.body = body
    return body


def classify(error: BaseException, phases: Phases) -> ErrorClass:
    """The class of a failed attempt, by the type of what was raised."""
    if isinstance(error, EgressBlocked) or isinstance(getattr(error, "os_error", None), EgressBlocked):
        return "blocked"
    for types, name in _CLASSES:
        if isinstance(error, types):
            # A reset in the middle of the handshake comes as an error of connecting.
            return "tls" if name == "connect" and phases.connect is not None else name
    return "internal"


_CLASSES: Final[tuple[tuple[tuple[type[BaseException], ...], ErrorClass], ...]] = (
    ((TimeoutError,), "timeout"),
    ((aiohttp.ClientConnectorDNSError,), "dns"),
    ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError), "tls"),
    ((aiohttp.ClientConnectorError,), "connect"),
    ((aiohttp.InvalidURL,), "invalid_url"),
    ((aiohttp.ClientResponseError, aiohttp.ClientPayloadError), "protocol"),
    ((aiohttp.ClientConnectionError, OSError), "disconnected"),
)


def _detail(error: BaseException) -> str:
    cause = getattr(error, "os_error", None) or error
    return f"{type(cause).__name__}: {cause}"[:300]
