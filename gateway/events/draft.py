"""An event that is not in the log yet: what ``POST /api/events`` carries (CONTRACT section 4), checked. Pure.

The payload is cut out of the request as text, so that its numbers, key order and spelling reach the consumer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.events import rules
from gateway.events.jsontext import NotJSON, is_json, items, kind, loads, members, one_line
from gateway.events.position import is_stream_key

_TEXTS = ("channel", "tenant", "time", "webhook_url", "webhook_failover_url")
_CHECKS: dict[str, Callable[[str], None]] = {
    "type": rules.check_type,
    "channel": rules.check_name,
    "tenant": rules.check_name,
    "time": rules.check_time,
    "webhook_url": rules.check_url,
    "webhook_failover_url": rules.check_url,
}
_KNOWN = {"type", "data", "stream", *_TEXTS}


class InvalidDraft(ValueError):
    """`errors` are (field, message); a field is a path such as ``[3].type``."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid event without an id. `stream` is None for the default one. `size` is the bytes it came in."""

    type: str
    data: bytes
    channel: str | None = None
    tenant: str | None = None
    time: str | None = None
    webhook_url: str | None = None
    webhook_failover_url: str | None = None
    stream: str | None = None
    size: int = 0

    def fields(self) -> dict[str, bytes]:
        """The fields of the entry, as XADD wants them."""
        entry = {"type": self.type.encode(), "data": self.data}
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None:
                entry[name] = value.encode()
        return entry


def parse_batch(text: str) -> list[Draft]:
    """One object, or an array of them. Raises `InvalidDraft`, naming the index of each bad item."""
    try:
        texts = items(text) if kind(text) == "[" else None
    except NotJSON as error:
        raise InvalidDraft([("", f"the body is not JSON: {error}")]) from None
    if texts is None:
        return [_collect([("", text)])[0]]
    return _collect([(f"[{index}]", item) for index, item in enumerate(texts)])


def parse_lines(text: str) -> list[Draft]:
    """NDJSON: one object a line; empty lines are passed over. The index of an error counts from 0."""
    lines = [line for line in text.split("\n") if line.strip()]
    return _collect([(f"[{index}]", line) for index, line in enumerate(lines)])


def _collect(texts: list[tuple[str, str]]) -> list[Draft]:
    if not texts:
        raise InvalidDraft([("", "no event in the body")])
    drafts: list[Draft] = []
    errors: list[tuple[str, str]] = []
    for path, text in texts:
        try:
            drafts.append(parse_draft(text))
        except InvalidDraft as error:
            prefix = f"{path}." if path else ""
            errors += [(prefix + field if field else path, message) for field, message in error.errors]
            if len(errors) >= 20:
                break
    if errors:
        raise InvalidDraft(errors)
    return drafts


def parse_draft(text: str) -> Draft:
    """One object. Raises `InvalidDraft` with every error of it."""
    try:
        parts = members(text)
    except NotJSON as error:
        raise InvalidDraft([("", f"must be a JSON object: {error}")]) from None
    errors: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    for name, raw in parts:
        if name not in _KNOWN:
            # A lone surrogate, legal in JSON as \udXXX, has no UTF-8 form to answer with.
            shown = name[:64].encode("utf-8", "backslashreplace").decode()
            errors.append((shown, f"unknown field (known: {', '.join(sorted(_KNOWN))})"))
        elif name in values:
            errors.append((name, "is given twice"))
        elif name == "data":
            data = raw.encode()
            values[name] = one_line(data)
            if not is_json(data):
                errors.append((name, "is nested too deep"))
        else:
            values[name] = _text(name, raw, errors)
    errors += [(name, "is required") for name in ("type", "data") if name not in values]
    if errors:
        raise InvalidDraft(errors)
    return Draft(**values, size=len(text.encode()))


def _text(name: str, raw: str, errors: list[tuple[str, str]]) -> str | None:
    """The string in `raw`; null stands for a field left out. What is wrong with it is added to `errors`."""
    if raw == "null" and name != "type":
        return None
    try:
        value = loads(raw)
    except NotJSON:
        value = None
    if not isinstance(value, str):
        errors.append((name, "must be a string"))
        return None
    try:
        if name == "stream":
            if not is_stream_key(value):
                raise ValueError("must be 1 to 128 characters of A-Z a-z 0-9 _ . : { } -")
        else:
            _CHECKS[name](value)
        if name == "type" and rules.is_reserved_type(value):
            raise ValueError("types that begin with gateway. are reserved")
    except ValueError as error:
        errors.append((name, str(error)))
    return value
