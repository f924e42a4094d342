"""What people do with the deliveries of an endpoint: look at them, send one again, try whether any gets through."""

from __future__ import annotations

import secrets
from typing import Any

from gateway.access.principal import Principal
from gateway.bridge.attempt import Attempt, Phases
from gateway.bridge.bridge import Bridge
from gateway.bridge.delivery import Delivery
from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.render import Bodies, Stationery, body_of
from gateway.errors import Problem
from gateway.events.event import Event
from gateway.events.position import format_id, make_id


class Deliveries:
    """Raises `Problem`, and what Redis raises."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def logs(
        self, caller: Principal, endpoint: Endpoint, limit: int, before: str | None, status: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Lines of the log, newest first; of those fetched, the ones that the caller may see."""
        found, following = await self._bridge.ledger.logs(endpoint.id, limit, before, status)
        return [delivery.summary() for delivery in found if _sees(caller, delivery)], following

    async def log(self, caller: Principal, endpoint: Endpoint, log_id: str) -> dict[str, Any]:
        """One delivery with every attempt."""
        return _detailed(await self._delivery(caller, endpoint, log_id))

    async def _delivery(self, caller: Principal, endpoint: Endpoint, log_id: str) -> Delivery:
        delivery = await self._bridge.ledger.log(endpoint.id, log_id)
        if delivery is None or not _sees(caller, delivery):
            raise Problem(404, f"there is no delivery {log_id[:80]} in the log of {endpoint.id}")
        return delivery

    async def resend(self, caller: Principal, endpoint: Endpoint, log_id: str) -> dict[str, Any]:
        """Deliver once more, with a full new schedule."""
        delivery = await self._delivery(caller, endpoint, log_id)
        if delivery.trigger == "test":
            raise Problem(409, "a test is not delivered again; make another")
        delivery.trigger, delivery.status, delivery.step = "resend", "pending", 0
        delivery.due = int(self._bridge.clock.now() * 1000)
        if not await self._bridge.ledger.enter(endpoint.id, delivery):
            raise Problem(409, f"{log_id} is already waiting for its next attempt")
        await self._bridge.registry.announce(endpoint.id)
        return delivery.summary()

    async def test(self, endpoint: Endpoint) -> dict[str, Any]:
        """Send a ``gateway.test`` event now; the delivery with its one attempt."""
        made_by_people(endpoint)
        now = self._bridge.clock.now()
        config = endpoint.config
        # Above any number that Redis gives within a millisecond: its webhook-id is no event's.
        event_id = make_id(int(now * 1000), (1 << 63) + secrets.randbits(40))
        data = b'{"message":"This is a test of your webhook.","webhook":"%b"}' % endpoint.id.encode()
        event = Event(event_id, config.stream, "gateway.test", "gateway", config.tenant, None, data)
        name = "log_" + format_id(event_id)
        delivery = Delivery(name, event, "test", int(now * 1000), envelope=config.dialect)
        try:
            stationery = Stationery(endpoint, Bodies(), self._bridge.options.product)
            request = stationery.request(event, 1, config.url, now)
        except ValueError as error:
            attempt = Attempt(config.url, now, {}, Phases(0.0), error="unrenderable", detail=str(error))
        else:
            attempt = await self._bridge.sender.post(config.url, request.headers, request.body, endpoint.timeout)
        delivery.note(attempt.record(1))
        delivery.code, delivery.error = attempt.status, attempt.error
        delivery.status = "delivered" if attempt.status in endpoint.dialect.success else "failed"
        await self._bridge.ledger.enter(endpoint.id, delivery)
        return {**_detailed(delivery), **delivery.history[0], "attempts": 1, "status": delivery.status}


def made_by_people(endpoint: Endpoint) -> Endpoint:
    """The endpoint, unless it is the gateway's own: that one has no URL, and would be made again at once."""
    if endpoint.system:
        raise Problem(409, f"{endpoint.id} is the gateway's own, for events that bring a URL; it can be disabled")
    return endpoint


def _sees(caller: Principal, delivery: Delivery) -> bool:
    # The endpoint may have got more when its maker was allowed more. A test is nobody's event.
    event = delivery.event
    return delivery.trigger == "test" or caller.sees(event.stream, event.tenant, event.channel, event.type)


def _detailed(delivery: Delivery) -> dict[str, Any]:
    history = []
    for record in delivery.history:
        dialect = DIALECTS[delivery.envelope]
        try:
            body = body_of(dialect, delivery.event, record["attempt"], record["url"]).decode()
        except ValueError:
            body = None
        history.append({**record, "request": {**record["request"], "body": body}})
    return {**delivery.summary(), "stream": delivery.event.stream, "dialect": delivery.envelope, "history": history}
