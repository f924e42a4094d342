"""The text/event-stream format, read as WHATWG HTML section 9.2.6 says.

Bytes in, events out, in pieces of any size; no I/O.  What the standard leaves to the user agent, waiting and connecting
again, is in `gateway.cli.follow`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """A dispatched event. `last_event_id` is that of the stream at this point, also when this block had none."""

    type: str
    data: str
    last_event_id: str


class EventStream:
    """The state of one response. `last_event_id` goes in from the connection before.

    An event counts only with the blank line that ends it: what is cut before that changes neither the events nor
    `last_event_id`.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        """The reconnection time that the server last asked for, in ms."""
        self.comments = 0
        """How many comment lines have come: the server's sign of life."""
        self._rest = b""
        self._after_cr = False
        self._at_start = True
        self._type = ""
        self._data: list[str] = []
        self._id = last_event_id

    def __repr__(self) -> str:
        return f"<EventStream last_event_id={self.last_event_id!r} retry_ms={self.retry_ms}>"

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are complete with `chunk`."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        text = self._rest + chunk
        if self._at_start:
            if len(text) < 3 and _BOM.startswith(text):
                self._rest = text
                return []
            text = text.removeprefix(_BOM)
            self._at_start = False
        # A lone CR at the end may be half of a CRLF: the line ends here all the same, its LF is dropped later.
        self._after_cr = text.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(text)
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        if line[:1] == b":":
            self.comments += 1
            return None
        name, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
        elif name == b"id":
            if "\0" not in value:
                self._id = value
        elif name == b"retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> ServerEvent | None:
        self.last_event_id = self._id
        type_, data = self._type, self._data
        self._type, self._data = "", []
        if not data:
            return None
        return ServerEvent(type_ or "message", "\n".join(data), self.last_event_id)
