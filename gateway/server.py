"""uvicorn, with what it lacks for streams that never end: a drain before it waits, bounded buffers, header timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.app import Gateway, create_app
from gateway.settings import Settings
from gateway.sse.connection import EXTENSION, LAST_CHUNK, Listener

_SEND_BUFFER = 65_536
"""Bytes the kernel may hold for one reader: without a limit 4 MB go to a client that reads nothing (measured)."""
_USER_TIMEOUT_MS = 30_000
_BACKLOG = 4096


def bind(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket whose accepted ones inherit bounded buffers and dead-peer detection. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.set_inheritable(True)
    except OSError:
        sock.close()
        raise
    return sock


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with a deadline for the request's head (uvicorn has none).

    It is also the `gateway.sse.connection.Connection` of the response that it carries.
    """

    request_timeout = 10.0
    max_header_bytes = 32 << 10
    _head_deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _head_too_large = False
    _listener: Listener | None = None
    _corked: list[bytes] | None = None

    def take_over(self, listener: Listener) -> None:
        """The body is the listener's from here on; the ASGI application may return."""
        self._listener = listener
        # uvicorn then takes the application's return for that of one whose client went away, and says nothing.
        self.cycle.disconnected = True
        # A stream lasts for hours: what only its request needed goes now (2 KB a connection).
        self.cycle.scope = self.scope = cast(Any, None)
        self.headers = []
        if self.transport.is_closing():
            self.loop.call_soon(listener.on_lost)

    def cork(self) -> None:
        """Collect what is written, the response's head too, until `uncork`: a system call costs more than all else."""
        self._corked = []
        self.cycle.transport = cast(asyncio.Transport, self)

    def uncork(self) -> None:
        """Hand over what was collected, in one write."""
        corked, self._corked = self._corked, None
        self.cycle.transport = self.transport
        if corked:
            self.transport.write(b"".join(corked))

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        if self._corked is not None:
            self._corked.append(data)
        else:
            self.transport.write(data)

    def writer(self) -> Callable[[bytes], None]:
        """`write` without the cork, as fast as can be."""
        return self.transport.write

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    def finish(self) -> None:
        """Send the last chunk and close when all is out."""
        self.transport.write(LAST_CHUNK)
        self.transport.close()

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


class Server(uvicorn.Server):
    """Ends streams before uvicorn waits for them; a second signal leaves at once."""

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[bool], Awaitable[None]], started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._on_started = started
        self._at_once = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drain. Ctrl-C: drain in no time. Another signal: leave."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._at_once = sig == signal.SIGINT

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then uvicorn's own shutdown."""
        for server in self.servers:
            server.close()
        if not self.force_exit:
            drain = asyncio.ensure_future(self._drain(self._at_once))
            while not drain.done() and not self.force_exit:
                await asyncio.wait([drain], timeout=0.1)
            drain.cancel()
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn skips the application's end then, and logs the lifespan that it cuts off as an error.
            await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn, but without raising the signal again: an orderly end exits with 0."""
        handlers = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in handlers.items():
                signal.signal(sig, handler)


def serve(settings: Settings, *, on_started: Callable[[str], None] | None = None) -> int:
    """Run until a signal; the exit code. `on_started` gets the base URL. Raises `OSError` when the port is taken."""
    sock = bind(settings.host, settings.port)
    host, port = sock.getsockname()[:2]
    app = create_app(settings)
    gateway: Gateway = app.state.gateway
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    options: dict[str, Any] = {
        "http": type(
            "ServedProtocol",
            (Protocol,),
            {"request_timeout": settings.request_timeout, "max_header_bytes": settings.max_header_bytes},
        ),
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": 5,
        "proxy_headers": False,
    }
    config = uvicorn.Config(app, **options)
    server = Server(config, gateway.drain, lambda: on_started(url) if on_started else None)
    server.run(sockets=[sock])
    return 0 if server.started else 1


def is_port_taken(error: OSError) -> bool:
    """Whether `bind` failed because somebody else listens there."""
    return error.errno == errno.EADDRINUSE
