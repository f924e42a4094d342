"""One connection to a receiver: a request goes out, the answer is read, the next request may follow.

llhttp parses.  What it must not be trusted with is how much there is: the head has a limit, the body is cut.  Whatever
leaves a doubt where the next answer would begin ends the connection: bytes nobody asked for, a body that was cut, an
answer that came before the request was out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.bridge.attempt import BODY_KEPT
from gateway.bridge.http.exchange import Exchange
from gateway.bridge.http.target import Origin

_HEAD_BYTES: Final = 64 * 1024
_HEADERS_KEPT: Final = 64
_VALUE_KEPT: Final = 1024
_JOINED: Final = 64 * 1024
"""Bodies up to this size go out in one piece with the head; copying more would cost more than a packet."""
_BODILESS: Final = (204, 304)


class Connection(asyncio.Protocol):
    """`release` is told when it is free again, and says whether it is kept."""

    def __init__(self, origin: Origin, release: Callable[[Connection], bool]) -> None:
        self.origin = origin
        self.idle_since = 0.0
        """Monotonic seconds."""
        self._release = release
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._parser = HttpResponseParser(self)
        # As Node and aiohttp read answers: no receiver is refused for white space that has only one meaning.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._used = False
        self._begin()

    def __repr__(self) -> str:
        state = "busy" if self._exchange is not None else "idle" if self.open else "closed"
        return f"<Connection {self.origin.host}:{self.origin.port} {state}>"

    def _begin(self) -> None:
        self._heard = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._over = False
        self._whole = False
        self._reusable = False
        self._until_end = False

    # Use.

    @property
    def open(self) -> bool:
        """Whether a request may go out."""
        return not self._transport.is_closing()

    def send(self, exchange: Exchange) -> None:
        """Write the request; `exchange` hears of the end. Only when there is no other."""
        self._exchange = exchange
        exchange.connection = self
        self._begin()
        if len(exchange.body) <= _JOINED:
            self._transport.write(exchange.head + exchange.body)
        else:
            self._transport.write(exchange.head)
            self._transport.write(exchange.body)

    def drop(self) -> None:
        """End at once; an exchange that was under way hears nothing."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._note(exchange)
        self._transport.abort()

    def close(self) -> None:
        """End it, while it is idle."""
        self._transport.close()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self._transport.abort()
            return
        if not self._heard:
            phases = exchange.attempt.phases
            phases.first_byte = time.monotonic() - phases.begun
        self._heard += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._reusable = False
            self._over = True
        except HttpParserError as error:
            self.drop()
            exchange.fail("protocol", f"{type(error).__name__}: {error}")
            return
        if self._over:
            self._finish(exchange)
        elif exchange.attempt.status is None and self._heard > _HEAD_BYTES:
            self.drop()
            exchange.fail("protocol", f"the head of the answer is longer than {_HEAD_BYTES} bytes")

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        del self._parser  # the two know each other, and would wait for the garbage collector

    def _ended(self, error: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        self._transport.abort()
        self._whole = self._until_end and error is None
        self._note(exchange)
        detail = "the connection was closed" if error is None else f"{type(error).__name__}: {error}"
        exchange.lost(detail, stale=self._used and not self._heard)

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = exchange.connection = None
        self._note(exchange)
        # A request that is not out yet would be taken for the beginning of the next one.
        if self._reusable and self._whole and not self._transport.get_write_buffer_size() and self.open:
            self._used = True
            self.idle_since = time.monotonic()
            if not self._release(self):
                self._transport.close()
        else:
            self._transport.abort()
        exchange.finish()

    def _note(self, exchange: Exchange) -> None:
        attempt = exchange.attempt
        if attempt.status is not None:
            attempt.body = self._body
            attempt.truncated = not self._whole

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._over:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) < _HEADERS_KEPT:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or self._over:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._headers.clear()
            return
        attempt = exchange.attempt
        attempt.status = status
        headers = attempt.response_headers = {
            name.decode("latin-1").lower(): value.decode("utf-8", "replace")[:_VALUE_KEPT]
            for name, value in self._headers
        }
        self._reusable = self._parser.should_keep_alive()
        if status in _BODILESS:
            self._over = self._whole = True
            # A body is not allowed, so where it says that there is one, nobody knows what follows.
            if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
                self._reusable = False
        elif "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", ""):
            self._until_end = True

    def on_body(self, data: bytes) -> None:
        if self._over:
            return
        self._body += data
        if len(self._body) > BODY_KEPT:
            self._body = self._body[:BODY_KEPT]
            self._over = True

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.attempt.status is not None and not self._over:
            self._over = self._whole = True
