"""A parser of event streams, written from the standard alone: the oracle.

WHATWG HTML, section 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream". It takes bytes in any
portions. It is not used by the gateway and shares no code with it.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple


class Message(NamedTuple):
    """What a browser would dispatch."""

    type: str
    data: str
    last_event_id: str


class EventSourceParser:
    """Feed it bytes; `messages` is what was dispatched so far."""

    def __init__(self, last_event_id: str = "") -> None:
        self.messages: list[Message] = []
        self.comments: list[str] = []
        self.last_event_id = last_event_id
        """The last event id string: what a reconnect would send."""
        self.reconnection_ms: int | None = None
        self.empty_blocks = 0
        """Blocks that had lines but no data: browsers ignore them, several libraries make an empty message of them."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True
        self._after_cr = False
        self._line = ""
        self._data = ""
        self._type = ""
        self._id = last_event_id

    def feed(self, chunk: bytes) -> list[Message]:
        """Take more bytes; answer the messages that they completed."""
        before = len(self.messages)
        text = self._decoder.decode(chunk)
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if text:
            # A CR at the end of a portion ends its line at once; an LF at the start of the next belongs to it.
            after_cr, self._after_cr = self._after_cr, text.endswith("\r")
            if after_cr:
                text = text.removeprefix("\n")
            *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            for line in lines:
                whole, self._line = self._line + line, ""
                self._end_of_line(whole)
            self._line += rest
        return self.messages[before:]

    def _end_of_line(self, line: str) -> None:
        if line == "":
            self._dispatch()
            return
        if line.startswith(":"):
            self.comments.append(line[1:])
            return
        field, colon, value = line.partition(":")
        if colon and value.startswith(" "):
            value = value[1:]
        self._field(field, value)

    def _field(self, field: str, value: str) -> None:
        if field == "event":
            self._type = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id":
            if "\0" not in value:
                self._id = value
        elif field == "retry" and value and all(digit in "0123456789" for digit in value):
            self.reconnection_ms = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        if self._data == "":
            self.empty_blocks += 1
        else:
            self.messages.append(Message(self._type or "message", self._data[:-1], self.last_event_id))
        self._data, self._type = "", ""
