"""Many entries at once, made by the server itself."""

from __future__ import annotations

import redis

_SCRIPT = """
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('XADD', KEYS[1], n .. '-0', 'type', ARGV[3], 'data', n)
end
"""


def fill(db: redis.Redis, stream: str, first: int, last: int, type_: str = "noise") -> None:
    """Entries ``<first>-0`` to ``<last>-0`` of one type; the payload is the number."""
    for start in range(first, last + 1, 10_000):
        db.eval(_SCRIPT, 1, stream, start, min(last, start + 9_999), type_)
