"""Where a replay begins or ends: the same words as ``since`` of a subscription (CONTRACT section 3)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from gateway.events import rules
from gateway.events.position import EventId, before, make_id, parse_id

_AGO = re.compile(r"([0-9]{1,9})([smhd])\Z")
_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def read_position(value: Any, now: float, *, earliest: EventId, latest: EventId) -> EventId:
    """The position that `value` names: an event id, an RFC 3339 time, ``10m``, ``earliest`` or ``latest``.

    `now` is Unix time in seconds. Raises `ValueError`.
    """
    if not isinstance(value, str):
        raise ValueError("must be text")
    if value in ("earliest", "latest"):
        return earliest if value == "earliest" else latest
    if (ago := _AGO.match(value)) is not None:
        return _at(int(now * 1000) - int(ago[1]) * _MS[ago[2]])
    if "T" in value or "t" in value:
        rules.check_time(value)
        whole = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", value.upper().replace("Z", "+00:00").replace(":60", ":59"))
        return _at(int(datetime.fromisoformat(whole).timestamp() * 1000))
    try:
        return parse_id(value)
    except ValueError:
        raise ValueError("must be an event id, an RFC 3339 time, a duration such as 10m, earliest or latest") from None


def _at(ms: int) -> EventId:
    return before(make_id(max(0, ms)))
