"""The query parameters of ``GET /api/events``, once: the parser and the API documents are both made from this table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.events.envelope import ENCODERS
from gateway.events.filter import CHANNEL_GLOB, MAX_GLOBS, TYPE_GLOB
from gateway.events.position import STREAM_KEY

MAX_STREAMS = 64
MAX_LAST = 1000
MAX_PAGE = 1000
DEFAULT_PAGE = 100

BOOLEANS: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False}

_U64 = r"(?:[0-9]{1,19}|0[0-9]{19}|1[0-7][0-9]{18}|18[0-3][0-9]{17}|184[0-3][0-9]{16}|1844[0-5][0-9]{15})"
"""Up to 18445999999999999999: the last promille below 2^64, which no clock reaches, is left out for brevity."""
_SEQUENCE = rf"(?:{_U64}|18446744073709551615)"
_EVENT_ID = f"{_U64}-{_SEQUENCE}"
_MARK = rf"[A-Za-z0-9_.:{{}}-]{{1,128}}@{_EVENT_ID}"
_POSITION = rf"(?:{_EVENT_ID}|{_MARK}(?:,{_MARK})*)"

EVENT_ID: Mapping[str, Any] = {"type": "string", "pattern": f"^{_EVENT_ID}$", "examples": ["1735732800000-0"]}
POSITION: Mapping[str, Any] = {"type": "string", "pattern": f"^{_POSITION}$", "examples": ["1735732800000-0"]}
RESUME: Mapping[str, Any] = {**POSITION, "pattern": f"^(?:{_POSITION})?$"}
"""A last event id as clients send it: empty while there is none."""


def _comma_list(one: re.Pattern[str], **limits: Any) -> Mapping[str, Any]:
    pattern = one.pattern.removesuffix(r"\Z")
    return {"type": "array", "items": {"type": "string", "pattern": f"^{pattern}(?:,{pattern})*$"}, **limits}


@dataclass(frozen=True, slots=True)
class Parameter:
    """`many`: repeatable, or a comma list. `schema` is JSON Schema. `credential`: it carries a token."""

    name: str
    meaning: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    many: bool = False
    aliases: tuple[str, ...] = ()
    credential: bool = False


_FLAG: Mapping[str, Any] = {"type": "string", "enum": list(BOOLEANS), "default": "true"}

PARAMETERS = (
    Parameter(
        "stream",
        "Stream keys. Left out: the default stream.",
        _comma_list(STREAM_KEY, minItems=1, maxItems=MAX_STREAMS),
        many=True,
    ),
    Parameter(
        "channel",
        "Channels or globs, OR among themselves. `*` stands for one or more characters, dots included.",
        _comma_list(CHANNEL_GLOB, minItems=1, maxItems=MAX_GLOBS),
        many=True,
    ),
    Parameter(
        "type",
        "Event types or globs, OR among themselves, AND with `channel`.",
        _comma_list(TYPE_GLOB, minItems=1, maxItems=MAX_GLOBS),
        many=True,
        aliases=("events",),
    ),
    Parameter(
        "format",
        "The envelope of each event.",
        {"type": "string", "enum": list(ENCODERS), "default": "native"},
    ),
    Parameter(
        "named",
        "Whether SSE frames carry `event: <type>`. Without it `EventSource.onmessage` sees all events.",
        _FLAG,
    ),
    Parameter(
        "last_event_id",
        "Resume after this position. The `Last-Event-ID` header wins over it. Several streams need the composite "
        "form `orders@1735732800000-0,payments@1735732800001-3`.",
        RESUME,
        aliases=("lastEventId", "lastEventID"),
    ),
    Parameter(
        "since",
        "Where to start when there is no last event id: after an event id or position, at an RFC 3339 time, so long "
        "ago (`10m`, `2h`, `7d`), at the `earliest` event, or at the `latest` (the default; a page starts at the "
        "earliest). Not together with `last`.",
        {
            "type": "string",
            "anyOf": [
                {"enum": ["earliest", "latest"]},
                {"pattern": "^[0-9]{1,9}[smhd]$"},
                {"pattern": POSITION["pattern"]},
                {"format": "date-time"},
            ],
            "examples": ["10m", "2025-01-01T12:00:00Z", "earliest", "1735732800000-0"],
        },
    ),
    Parameter(
        "last",
        "Start so that the newest N matching events come first. Not together with `since`.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LAST},
    ),
    Parameter("control", "Whether control events (`gateway.*`) are sent.", _FLAG),
    Parameter(
        "limit",
        "The most events in a page. Only with `Accept: application/json`.",
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    ),
    Parameter("access_token", "An API key or JWT, for clients that cannot set headers.", credential=True),
    Parameter("ticket", "A one-use token, for clients that cannot set headers.", credential=True),
)

ALIASES: Mapping[str, str] = {alias: parameter.name for parameter in PARAMETERS for alias in parameter.aliases}
LISTS = frozenset(parameter.name for parameter in PARAMETERS if parameter.many)
SINGLES = frozenset(parameter.name for parameter in PARAMETERS if not parameter.many)
