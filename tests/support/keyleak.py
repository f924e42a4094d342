"""After a test: every key that it left behind has a time to live, or is one of those that may stay."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

import redis


def leaked_keys(client: redis.Redis, may_stay: Iterable[str]) -> list[str]:
    """Keys without a time to live whose names match none of the patterns."""
    patterns = list(may_stay)
    found = []
    for raw in client.scan_iter(count=1000):
        name = raw.decode("utf-8", "replace")
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) and client.ttl(raw) == -1:
            found.append(name)
    return sorted(found)
