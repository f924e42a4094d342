"""A TCP relay that ends each connection after a random number of bytes of the answer: a reset, or an early end."""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
from contextlib import suppress


class Cutter:
    """Between clients and `upstream`. Each connection lives for some bytes of `span`; chance comes from `seed`.

    `mercy` never cuts between an ``id`` line and the blank line after it: there a client that takes the id as soon as
    it reads it (fetch-event-source) has no way to get the event again.
    """

    def __init__(self, upstream: int, span: range, seed: int, *, mercy: bool = False) -> None:
        self.cuts = 0
        self._upstream, self._span, self._mercy = upstream, span, mercy
        self._chance = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api/events"
        self._open = True
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def be_kind(self) -> None:
        """Cut no more."""
        self._open = False

    def stop(self) -> None:
        """End all connections."""
        self._open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            limit, reset = self._chance.choice(self._span), self._chance.random() < 0.5
            thread = threading.Thread(target=self._relay, args=(client, limit, reset))
            self._threads.append(thread)
            thread.start()

    def _relay(self, client: socket.socket, limit: int, reset: bool) -> None:
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as server, suppress(OSError):
            passed = b""
            while self._listener.fileno() >= 0:
                ready, _, _ = select.select([client, server], [], [], 0.1)
                if client in ready:
                    asked = client.recv(65_536)
                    if not asked:
                        return
                    server.sendall(asked)
                if server in ready:
                    answer = server.recv(65_536)
                    if not answer:
                        return
                    if self._open and len(passed) + len(answer) > limit:
                        client.sendall(self._last(passed, answer, limit))
                        self.cuts += 1
                        if reset:
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    passed += answer
                    client.sendall(answer)

    def _last(self, passed: bytes, answer: bytes, limit: int) -> bytes:
        piece = answer[: limit - len(passed)]
        if self._mercy:
            line = (passed + piece).removesuffix(b"\n").rpartition(b"\n")[2]
            if line.startswith(b"id: "):
                return piece[: max(0, len(piece) - len(line) - 1)]
        return piece
