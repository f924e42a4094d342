"""What the direct lane needs of a server: the transport under a response, and word of its fate.

`gateway.server` puts an object of this shape into ``scope["extensions"]["gateway.connection"]``.  Where it is missing
(HTTP/2, another ASGI server, a test client) sse-starlette's own loop serves the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

EXTENSION = "gateway.connection"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(block: bytes) -> bytes:
    """`block` framed for ``Transfer-Encoding: chunked`` (RFC 9112, section 7.1). Must not be empty."""
    return b"%x\r\n%b\r\n" % (len(block), block)


class Listener(Protocol):
    """Who is told of what happens to a connection. None of these may raise or block."""

    def on_paused(self) -> None:
        """The buffer is over its high-water mark."""

    def on_resumed(self) -> None:
        """The buffer is below its low-water mark again."""

    def on_lost(self) -> None:
        """The client is gone. Nothing else follows."""


class Connection(Protocol):
    """An HTTP/1.1 connection whose response head is sent and whose body is chunked."""

    def take_over(self, listener: Listener) -> None:
        """From here on the body is ours, also after the ASGI application has returned."""

    def respond(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of a 200 whose body is chunked, with the server's own headers before `headers`."""

    def cork(self) -> None:
        """Collect what is written, the response's head too, until `uncork`."""

    def uncork(self) -> None:
        """Hand over what was collected, in one write."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; never waits."""

    def writer(self) -> Callable[[bytes | memoryview], None]:
        """`write` without the cork, as fast as can be."""

    def descriptor(self) -> int | None:
        """Of the socket, if what is written to it reaches the client as it is (not so with TLS)."""

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""

    def finish(self) -> None:
        """Send the last chunk and close when all is out."""

    def abort(self) -> None:
        """Close now; what is buffered is dropped."""
