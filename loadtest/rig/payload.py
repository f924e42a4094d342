"""What the load tests publish: one line of JSON that carries its number and the time it was sent."""

from __future__ import annotations

import re
import time

MARK = b"~"
"""Once in each payload and nowhere else on the wire: counting it counts events, wherever a chunk is cut."""

STAMP = re.compile(rb'"t":(\d+),"n":(\d+)')
"""(monotonic nanoseconds at sending, number) in a payload."""


def payload(number: int, size: int) -> bytes:
    """Payload `number`, sent now, of `size` bytes (or of what its fields need, when that is more)."""
    head = b'{"t":%d,"n":%d,"p":"' % (time.monotonic_ns(), number)
    return head + b"x" * (size - len(head) - 3) + MARK + b'"}'
