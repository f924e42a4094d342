"""Lines of a file or a pipe, gathered into batches that one request can carry."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

MAX_EVENTS = 500
# Half of what the gateway takes in one body by default.
MAX_BYTES = 512 << 10
_LINGER = 0.05


@dataclass(slots=True)
class Batch:
    """Consecutive lines that are not blank. `numbers` are their line numbers in the input, from 1."""

    lines: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    size: int = 0

    def has_room(self, line: bytes) -> bool:
        """Whether `line` may join. A line of any size may begin a batch."""
        return not self.lines or (len(self.lines) < MAX_EVENTS and self.size + len(line) < MAX_BYTES)

    def add(self, number: int, line: bytes) -> None:
        """Append one line."""
        self.lines.append(line)
        self.numbers.append(number)
        self.size += len(line) + 1


def _read(fd: int, loop: asyncio.AbstractEventLoop, chunks: asyncio.Queue[bytes]) -> None:
    """Hand over what there is until the end, which is ``b""``; no faster than it is taken."""
    try:
        chunk = b"more"
        while chunk:
            chunk = os.read(fd, 1 << 16)
            asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()
    except (RuntimeError, asyncio.CancelledError):
        return  # the loop has closed: nobody is reading any more


async def batches(fd: int, *, live: bool) -> AsyncGenerator[Batch]:
    """The lines of `fd`.

    With `live` a batch does not wait for more lines than have come; without, batches depend on the content alone, so
    that a second run makes the same ones.
    """
    chunks: asyncio.Queue[bytes] = asyncio.Queue(8)
    # A thread of its own, as a daemon: a read of a terminal or a pipe cannot be cancelled, and must not delay the end.
    threading.Thread(target=_read, args=(fd, asyncio.get_running_loop(), chunks), daemon=True).start()
    batch, number, rest = Batch(), 0, b""
    chunk = b"more"
    while chunk:
        try:
            chunk = await asyncio.wait_for(chunks.get(), _LINGER if live and batch.lines else None)
        except TimeoutError:
            yield batch
            batch = Batch()
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        if not chunk and rest:
            lines.append(rest)
        for line in lines:
            number += 1
            line = line.strip()
            if not line:
                continue
            if not batch.has_room(line):
                yield batch
                batch = Batch()
            batch.add(number, line)
    if batch.lines:
        yield batch
