"""The HTTP client of the bridge: one POST, one verdict, whatever the receiver does.

One deadline covers name, connection, TLS, request and answer.  Of the body 16 KiB are read, as they come: nothing is
decompressed, so a small answer cannot become a large one.  Redirects, cookies and proxies of the environment are not
followed.  A status line is a verdict: a body that then hangs or never ends is cut off and changes nothing.

It calls back: a task, a future and a timeout of asyncio for each request would cost as much as the request.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final

from gateway.bridge.attempt import Attempt, ErrorClass, Phases
from gateway.bridge.egress import EgressBlocked, EgressGuard
from gateway.bridge.http.deadlines import Deadlines
from gateway.bridge.http.dialer import Dialer, HandshakeFailed, Unreachable
from gateway.bridge.http.exchange import Exchange
from gateway.bridge.http.pool import Pool
from gateway.bridge.http.resolver import NameUnknown, Resolver
from gateway.bridge.http.target import InvalidTarget, read_target


class Sender:
    """Posts webhooks over one pool of connections. Use inside a running event loop; `close` it.

    `allow_http` opens plain http. `tls` replaces the default trust in public authorities.
    """

    def __init__(
        self,
        guard: EgressGuard,
        *,
        allow_http: bool = False,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._allow_http = allow_http
        self._resolver = resolver or Resolver()
        self._dialer = Dialer(guard, self._resolver, tls)
        self._pool = Pool()
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines()

    async def close(self) -> None:
        """Close all connections; what is under way fails."""
        self._pool.close()
        for exchange in self._deadlines.all():
            exchange.abort("internal", "the sender was closed")
        self._deadlines.close()
        self._resolver.close()
        await asyncio.sleep(0)

    async def post(self, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Attempt:
        """As `send`, for those who can wait; never raises but for cancellation."""
        answer: asyncio.Future[Attempt] = self._loop.create_future()
        exchange = self.send(url, headers, body, timeout, answer.set_result)
        try:
            return await answer
        finally:
            exchange.cancel()

    def send(
        self, url: str, headers: dict[str, str], body: bytes, timeout: float, done: Callable[[Attempt], None]
    ) -> Exchange:
        """POST `body`; `done` gets the attempt, later, whatever happens. `timeout` is the deadline in seconds."""
        begun = time.monotonic()
        attempt = Attempt(url, time.time(), headers, Phases(begun))
        exchange = Exchange(attempt, body, done, self._dial)
        exchange.slot = self._deadlines.add(exchange, begun + timeout)
        try:
            target = exchange.target = read_target(url)
            if not (target.origin.secure or self._allow_http):
                raise EgressBlocked
            exchange.head = target.head + head_of(headers, len(body))
        except Exception as error:
            self._loop.call_soon(exchange.fail, classify(error), _detail(error))
            return exchange
        connection = self._pool.take(target.origin)
        if connection is None:
            self._dial(exchange)
        else:
            connection.send(exchange)
        return exchange

    def _dial(self, exchange: Exchange) -> None:
        exchange.dialing = self._loop.create_task(self._dialled(exchange))

    async def _dialled(self, exchange: Exchange) -> None:
        try:
            connection = await self._dialer.dial(exchange.target.origin, exchange.attempt.phases, self._pool.give)
        except Exception as error:
            exchange.dialing = None
            exchange.fail(classify(error), _detail(error))
            return
        exchange.dialing = None
        connection.send(exchange)


def head_of(headers: Mapping[str, str], size: int) -> bytes:
    """The headers of a request whose body has `size` bytes, and the empty line. Raises `ValueError`."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"{''.join(lines)}Content-Length: {size}\r\n\r\n"
    # A line end in a value would let whoever chose it write headers, or a second request (CWE-113).
    if head.count("\n") != len(lines) + 2 or head.count("\r") != len(lines) + 2 or "\0" in head:
        raise ValueError("a header may not hold a line end")
    return head.encode()


def classify(error: BaseException) -> ErrorClass:
    """The class of a failed attempt, by the type of what was raised."""
    for type_, name in _CLASSES:
        if isinstance(error, type_):
            return name
    return "internal"


_CLASSES: Final[tuple[tuple[type[BaseException], ErrorClass], ...]] = (
    (EgressBlocked, "blocked"),
    (InvalidTarget, "invalid_url"),
    (NameUnknown, "dns"),
    (Unreachable, "connect"),
    (HandshakeFailed, "tls"),
)


def _detail(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"
