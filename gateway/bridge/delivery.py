"""A delivery: one event on its way to one endpoint, with all its attempts. It is also the record in the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from gateway.events.event import Event, format_time
from gateway.events.position import format_id, parse_id

Status = Literal["pending", "retrying", "delivered", "failed", "cancelled"]
Trigger = Literal["event", "replay", "resend", "test"]
STATUSES: Final = ("pending", "retrying", "delivered", "failed", "cancelled")

_ATTEMPTS_KEPT: Final = 20
"""A receiver may answer 429 for days; the first and the latest attempts tell that story."""


def message_id(event: Event) -> str:
    """The ``webhook-id``: the same for every attempt and replay, without dots (Standard Webhooks splits at them).

    ``~`` stands for the dots of the stream's key, which cannot hold one.
    """
    return f"msg_{event.stream.replace('.', '~')}_{format_id(event.id)}"


@dataclass(slots=True)
class Delivery:
    """`created` and `due` are Unix times in ms. `step` counts charged attempts, `attempts` all of them."""

    id: str
    event: Event
    trigger: Trigger
    created: int
    status: Status = "pending"
    step: int = 0
    attempts: int = 0
    code: int | None = None
    error: str | None = None
    due: int | None = None
    envelope: str = "native"
    history: list[dict[str, Any]] = field(default_factory=list)
    in_retries: bool = False
    """Whether the retry ledger may hold it; not stored."""

    def note(self, record: dict[str, Any]) -> None:
        """Add an attempt's record."""
        self.attempts += 1
        if len(self.history) >= _ATTEMPTS_KEPT:
            del self.history[_ATTEMPTS_KEPT // 2]
        self.history.append(record)

    def dump(self) -> bytes:
        """As JSON, for the ledger. The payload goes in as text, so that its spelling survives."""
        event = self.event
        return orjson.dumps(
            {
                "id": self.id,
                "event": (
                    format_id(event.id), event.stream, event.type, event.channel, event.tenant, event.stamp,
                    event.data.decode(), event.webhook_url, event.webhook_failover_url,
                ),
                "trigger": self.trigger,
                "created": self.created,
                "status": self.status,
                "step": self.step,
                "attempts": self.attempts,
                "code": self.code,
                "error": self.error,
                "due": self.due,
                "envelope": self.envelope,
                "history": self.history,
            }
        )  # fmt: skip

    @classmethod
    def load(cls, raw: bytes) -> Delivery:
        """What `dump` made."""
        fields = orjson.loads(raw)
        event_id, stream, type_, channel, tenant, stamp, data, url, failover = fields.pop("event")
        event = Event(parse_id(event_id), stream, type_, channel, tenant, stamp, data.encode(), url, failover)
        return cls(event=event, **fields)

    def summary(self) -> dict[str, Any]:
        """One line of the log, as the API shows it."""
        return {
            "id": self.id,
            "eventType": self.event.type,
            "eventId": format_id(self.event.id),
            "status": self.status,
            "attempts": self.attempts,
            "responseCode": self.code,
            "createdAt": format_time(self.created),
            "error": self.error,
            "trigger": self.trigger,
            "nextAttemptAt": None if self.due is None else format_time(self.due),
        }
