"""Requests without sense, the same ones for the same seed; and a client that sends very many."""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
from collections.abc import Callable, Iterator
from contextlib import suppress

_NAMES = ["stream", "channel", "type", "events", "since", "last", "limit", "format", "named", "control", "padding", "x"]
_PATHS = [
    "/api/events",
    "/api/webhooks",
    "/api/tickets",
    "/metrics",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/",
    "/no",
]
_TYPES = ["application/json", "application/x-ndjson", "text/plain", "", "multipart/form-data"]
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.IGNORECASE)


class Noise:
    """`keys` are credentials that are good."""

    def __init__(self, seed: int, keys: list[str]) -> None:
        self._random = random.Random(seed)
        self._keys = keys

    def requests(self) -> Iterator[bytes]:
        """Without end. None asks for a stream, and none has an answer without a length."""
        kinds: list[Callable[[], bytes]] = [self._read, self._read, self._publish, self._webhook, self._anything]
        while True:
            yield self._random.choice(kinds)()

    def _word(self, most: int = 12) -> str:
        letters = string.ascii_letters + string.digits + "-_.:*,@%/{}~\u00e9"
        return "".join(self._random.choices(letters, k=self._random.randint(0, most)))

    def _json(self, depth: int = 3) -> object:
        kind = self._random.randrange(8 if depth else 5)
        if kind < 5:
            return [None, True, self._random.randrange(-9, 1 << 70), self._random.random() * 1e300, self._word(40)][
                kind
            ]
        if kind < 6:
            return [self._json(depth - 1) for _ in range(self._random.randrange(4))]
        return {self._word(): self._json(depth - 1) for _ in range(self._random.randrange(4))}

    def _credential(self) -> str:
        pick = self._random.randrange(8)
        bad = ["gwk_" + self._word(60), "gwk_" + "".join(self._random.choices(string.hexdigits, k=43)), self._word(90)]
        token = ".".join(self._word(40) for _ in range(3))
        text = self._random.choice([*bad, token])
        if pick < 4:
            return f"Authorization: Bearer {self._random.choice(self._keys)}\r\n"
        if pick < 6:
            return f"Authorization: Bearer {text}\r\n"
        return f"Cookie: gateway_token={text}; {self._word()}={self._word()}\r\n" if pick < 7 else ""

    def _request(self, method: str, target: str, more: str = "", body: bytes = b"") -> bytes:
        target = re.sub(r"[^!-~]", "%20", target)
        length = f"Content-Length: {len(body)}\r\n" if body or method != "GET" else ""
        odd = f"{self._random.choice(['X-Odd', 'Last-Event-ID', 'Origin', 'Accept-Language'])}: {self._word(30)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n{self._credential()}{odd}{more}{length}\r\n"
        return head.encode("latin-1", "replace") + body

    def _read(self) -> bytes:
        values = ["events", "1-0", "earliest", "sms.*", "json", "100", "true", "-1", self._word(30), self._word(30)]
        query = "&".join(
            f"{self._random.choice(_NAMES)}={self._random.choice(values)}" for _ in range(self._random.randrange(5))
        )
        return self._request("GET", f"/api/events?{query}", "Accept: application/json\r\n")

    def _publish(self) -> bytes:
        event = {"type": self._random.choice(["a.b", self._word()]), "data": self._json()}
        event |= {self._random.choice(["channel", "tenant", "stream", self._word()]): self._word()}
        body = json.dumps(self._random.choice([event, [event, event], self._json()])).encode()
        if self._random.randrange(4) == 0:
            body = body[: self._random.randrange(len(body) + 1)] + self._random.randbytes(8)
        more = f"Content-Type: {self._random.choice(_TYPES)}\r\n"
        if self._random.randrange(4) == 0:
            more += f"Idempotency-Key: {self._word(80)}\r\n"
        return self._request("POST", "/api/events", more, body)

    def _webhook(self) -> bytes:
        method = self._random.choice(["GET", "PATCH", "DELETE", "POST", "PUT"])
        path = "/api/webhooks/" + self._random.choice(["", "whk_x", "whk_x/logs", "whk_x/test", self._word()])
        body = json.dumps({"url": self._word(), "events": self._json(), self._word(): self._json()}).encode()
        return self._request(method, path, "Content-Type: application/json\r\n", b"" if method == "GET" else body)

    def _anything(self) -> bytes:
        method = self._random.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
        target = self._random.choice([*_PATHS, f"/{self._word(40)}"])
        # Never for a stream.
        return self._request(method, target, "Accept: application/json\r\n")


async def send(port: int, requests: Iterator[bytes], count: int) -> list[int]:
    """Send `count` of `requests`, one after the other on kept connections; the status of each answer, 0 for none."""
    statuses: list[int] = []
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    for _, request in zip(range(count), requests, strict=False):
        if reader is None or writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
        statuses.append(int(head[9:12]) if head else 0)
        if not head or b"\r\nconnection: close" in head.lower():
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()
    return statuses
