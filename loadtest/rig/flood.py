"""Somebody who tries keys: so many connections a second, each with another unknown key, each closed when answered.

A process of its own, so that what it does is not in the way of the subscribers that measure; and as few system calls
as there can be, because it shares a core with them.  It prints ``going`` at its first answer, and when it is terminated
its counts as JSON.
"""

from __future__ import annotations

import json
import secrets
import select
import signal
import socket
import struct
import sys
import time

from loadtest.rig.machine import raise_file_limit

_TICK = 0.001
_MOST = 4000
"""Under way at a time: a server that answers no more is not sent more."""
# Closed with a reset: 2,000 a second in TIME_WAIT would use up the ports of an address in 14 s.
_RESET = struct.pack("ii", 1, 0)
_REFUSALS = (b"HTTP/1.1 401", b"HTTP/1.1 429")


class Flood:
    """Connects to `address`, `rate` times a second, until it is stopped."""

    def __init__(self, address: tuple[str, int], path: str, rate: float, prefix: str) -> None:
        host, port = address
        head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n"
        self._head = f"{head}Authorization: Bearer {prefix}"
        self._address = address
        self._rate = rate
        self._open: dict[int, socket.socket] = {}
        self._epoll = select.epoll()
        self.stopped = False
        self.refused = self.other = self.failed = 0

    def run(self) -> dict[str, float]:
        """Counts: `refused` with 401 or 429, `other` answers, `failed` without one; `seconds` it took."""
        start, begun = time.monotonic(), 0
        while not self.stopped:
            due = int((time.monotonic() - start) * self._rate) - begun
            begun += due
            for _ in range(min(due, _MOST - len(self._open))):
                self._try()
            for fd, _ in self._epoll.poll(_TICK):
                self._hear(self._open.pop(fd))
        seconds = time.monotonic() - start
        return {"refused": self.refused, "other": self.other, "failed": self.failed, "seconds": seconds}

    def _try(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # On the loopback the handshake is over when this returns, although it does not say so.
        sock.connect_ex(self._address)
        try:
            sock.send(f"{self._head}{secrets.token_urlsafe(32)}\r\n\r\n".encode())
        except OSError:
            self.failed += 1
            sock.close()
            return
        self._open[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _hear(self, sock: socket.socket) -> None:
        try:
            first = sock.recv(256)
        except OSError:
            first = b""
        sock.close()
        if not self.refused + self.other:
            _say("going")
        if first.startswith(_REFUSALS):
            self.refused += 1
        elif first:
            self.other += 1
        else:
            self.failed += 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _main(host: str, port: str, path: str, rate: str, prefix: str) -> None:
    flood = Flood((host, int(port)), path, float(rate), prefix)
    signal.signal(signal.SIGTERM, lambda *_: setattr(flood, "stopped", True))
    _say(json.dumps(flood.run()))


if __name__ == "__main__":
    raise_file_limit()
    _main(*sys.argv[1:])
