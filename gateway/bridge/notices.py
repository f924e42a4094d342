"""What the bridge tells the world: changes of an endpoint's state on ``gateway:ops``, answers on a reply stream."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.bridge.attempt import Attempt
from gateway.bridge.clock import Clock
from gateway.bridge.delivery import Delivery, message_id
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.ledger import OPS_STREAM
from gateway.events.event import format_time
from gateway.events.jsontext import is_json
from gateway.events.position import format_id
from gateway.stream.gap import Gap

Entry = tuple[str, dict[str, str | bytes]]
"""A stream, and the fields of an entry for it."""


class Notices:
    """Makes entries for one endpoint."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock

    def failing(self, since: float, attempt: Attempt) -> Entry:
        """The breaker opened: nothing but probes goes out until one succeeds."""
        return self._entry("webhook.failing", since=_time(since), **_why(attempt))

    def recovered(self, since: float) -> Entry:
        """A probe succeeded."""
        return self._entry("webhook.recovered", since=_time(since))

    def disabled(self, reason: str, attempt: Attempt) -> Entry:
        """Nothing goes out until somebody enables it: ``gone`` (410) or ``failing`` (five days without success)."""
        return self._entry("webhook.disabled", reason=reason, **_why(attempt))

    def exhausted(self, delivery: Delivery) -> Entry:
        """The last attempt at a delivery failed."""
        return self._entry(
            "webhook.exhausted",
            log=delivery.id,
            event_id=format_id(delivery.event.id),
            event_type=delivery.event.type,
            attempts=delivery.attempts,
            status=delivery.code,
            error=delivery.error,
        )

    def gap(self, gap: Gap) -> Entry:
        """Events between two positions were gone before they could be delivered."""
        return self._entry(
            "stream.gap",
            stream=gap.stream,
            requested=format_id(gap.requested),
            resumed_at=format_id(gap.id),
            reason=gap.reason,
        )

    def _entry(self, type_: str, **data: Any) -> Entry:
        endpoint = self._endpoint
        fields: dict[str, str | bytes] = {
            "type": type_,
            "data": orjson.dumps({"webhook": endpoint.id, "url": endpoint.config.url, **data}),
            "time": _time(self._clock.now()),
        }
        if endpoint.config.tenant is not None:
            fields["tenant"] = endpoint.config.tenant
        return OPS_STREAM, fields


def reply(delivery: Delivery, attempt: Attempt, endpoint: Endpoint, stream: str) -> Entry:
    """The receiver's answer as an event: ``webhook.reply`` with the id of what it answers."""
    event = delivery.event
    head = orjson.dumps(
        {
            "webhook": endpoint.id,
            "event_id": format_id(event.id),
            "event_type": event.type,
            "webhook_id": message_id(event),
            "status": attempt.status,
        }
    )
    body = attempt.body
    if not is_json(body):
        body = orjson.dumps(body.decode("utf-8", "replace"))
    fields: dict[str, str | bytes] = {"type": "webhook.reply", "data": head[:-1] + b',"body":' + body + b"}"}
    if event.tenant is not None:
        fields["tenant"] = event.tenant
    return stream, fields


def _time(seconds: float) -> str:
    return format_time(int(seconds * 1000))


def _why(attempt: Attempt) -> dict[str, Any]:
    return {"status": attempt.status, "error": attempt.error, "detail": attempt.detail}
