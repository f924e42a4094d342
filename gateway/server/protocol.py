"""uvicorn's HTTP/1.1 protocol, with access to its connection and a bounded request head."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.access.head import Head, head_of
from gateway.sse.connection import EXTENSION, LAST_CHUNK, Connection, Listener

log = logging.getLogger("gateway.server")


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with a deadline for the request's head (uvicorn has none).

    It is also the `gateway.sse.connection.Connection` of the response that it carries.
    """

    request_timeout = 10.0
    max_header_bytes = 32 << 10
    at_once: Callable[[Head, Connection], bool] | None = None
    """Serves a request over its connection if that needs no waiting: then there is no task (`gateway.sse.door`)."""
    _head_deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _head_too_large = False
    _listener: Listener | None = None
    _serving: RequestResponseCycle
    """The request being answered: `cycle` may be that of another, which came behind it in the same segment."""
    _corked: list[bytes] | None = None

    def take_over(self, listener: Listener) -> None:
        """The body is the listener's from here on; the ASGI application may return."""
        self._listener = listener
        # uvicorn then takes the application's return for that of one whose client went away, and says nothing.
        self._serving.disconnected = True
        # A stream lasts for hours: what only its request needed goes now (2 KB a connection).
        self._serving.scope = cast(Any, None)
        if self._serving is self.cycle:
            self.scope = cast(Any, None)
            self.headers = []
        if self.transport.is_closing():
            self.loop.call_soon(listener.on_lost)
            return
        # The kernel's buffer is the buffer: what it does not take makes a slow reader.  And uvloop then sends at once,
        # where it would else come back to each transport at the end of its turn (a quarter of its time for a write).
        # The transports of TLS would take an empty buffer for a full one.
        self.transport.set_write_buffer_limits(high=0 if self.descriptor() is not None else 1, low=0)

    def respond(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of a 200 whose body is chunked. As uvicorn would, but unchecked: none comes from a client."""
        self._serving.response_started = True
        lines = [b"%b: %b\r\n" % pair for pair in (*self._serving.default_headers, *headers)]
        self.write(b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % b"".join(lines))

    def cork(self) -> None:
        """Collect what is written, the response's head too, until `uncork`: a system call costs more than all else."""
        self._corked = []
        self._serving.transport = cast(asyncio.Transport, self)

    def uncork(self) -> None:
        """Hand over what was collected, in one write."""
        corked, self._corked = self._corked, None
        self._serving.transport = self.transport
        if corked:
            self.write(b"".join(corked))

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        if self._corked is not None:
            self._corked.append(data)
        elif not self.transport.is_closing():  # uvloop raises where asyncio only logs
            self.transport.write(data)

    def writer(self) -> Callable[[bytes | memoryview], None]:
        """`write` without the cork, as fast as can be."""
        return self.transport.write

    def descriptor(self) -> int | None:
        """Of the socket; None with TLS, when it is closed already, and on Windows, where `os.write` means another."""
        if self.scheme == "https" or os.name == "nt" or self.transport.is_closing():
            return None
        descriptor: int = self.transport.get_extra_info("socket").fileno()
        return descriptor

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    def finish(self) -> None:
        """Send the last chunk and close when all is out."""
        if self.transport.is_closing():
            return
        self.transport.write(LAST_CHUNK)
        self.transport.close()
        if self.transport.get_write_buffer_size():
            # A client that takes nothing would hold the closed transport for ever.
            self.loop.call_later(self.request_timeout, self.transport.abort)

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Over the high-water mark."""
        super().pause_writing()
        if self._listener is not None:
            self._listener.on_paused()

    def resume_writing(self) -> None:
        """Below the low-water mark."""
        super().resume_writing()
        if self._listener is not None:
            self._listener.on_resumed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock for the first request."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._head_deadline = self.loop.call_later(self.request_timeout, self._abandon)

    def data_received(self, data: bytes) -> None:
        """Bytes came. A head that does not end is not collected for ever (httptools has no limit)."""
        super().data_received(data)
        if self._head_deadline is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.max_header_bytes:
                self._head_too_large = True
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or too large a one."""
        if self._head_too_large:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._listener is None:
            super().send_400_response(msg)
        else:
            self._refuse(b"400 Bad Request")

    def on_headers_complete(self) -> None:
        """The head is here: stop the clock."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.max_header_bytes:
            self._head_too_large = True
            raise ValueError("the head is too large")  # ends the parsing; `send_400_response` follows
        self._stop_clock()
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        """The head of another request on this connection has begun."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: cast(Any, self)}
        self._head_bytes = 0
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(self.request_timeout, self._abandon)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind (uvicorn leaves its own after a reset)."""
        self._stop_clock()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._listener is not None:
            self._listener.on_lost()
            self._listener = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving = cycle
        if not self._served_at_once(cycle):
            super()._start_asgi_task(cycle, app)

    def _served_at_once(self, cycle: RequestResponseCycle) -> bool:
        # What uvicorn would wait for, or do before the answer, is for uvicorn: an answer before this one that its
        # client has yet to take, 100 Continue, HTTP/1.0, and closing.
        if self.at_once is None or self.flow.write_paused or cycle.waiting_for_100_continue or not cycle.keep_alive:
            return False
        try:
            served = self.at_once(head_of(cycle.scope), self)
        except Exception:
            log.exception("connect.failed")
            served = cycle.response_started  # else the application answers, if only with a 500
            if served:
                self.transport.abort()
        if served:
            cycle.on_response = _nothing  # as uvicorn does after an application: the two would hold each other
        return served

    def _stop_clock(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _abandon(self) -> None:
        self._head_deadline = None
        self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._listener is None:
            self.transport.write(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
        # In the middle of a stream the answer would stand among its events.
        self.transport.close()


def _nothing() -> None:
    pass
