"""Makes the attempts of one endpoint: which URL, which request, and what the answer means for the delivery."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

from gateway.bridge.attempt import Attempt, Phases
from gateway.bridge.delivery import Delivery
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.outcome import Outcome, judge
from gateway.bridge.render import Stationery
from gateway.bridge.schedule import Step, plan
from gateway.bridge.tools import Tools
from gateway.events.event import Event
from gateway.events.position import milliseconds

log = logging.getLogger("gateway.bridge")


class Result(NamedTuple):
    """`own_url`: the URL was the endpoint's, so the outcome says something of the endpoint."""

    attempt: Attempt
    outcome: Outcome
    own_url: bool


class Courier:
    """For one endpoint as it is now; a changed endpoint gets a new one."""

    def __init__(self, endpoint: Endpoint, tools: Tools) -> None:
        self._endpoint = endpoint
        self._tools = tools
        self._stationery = Stationery(endpoint, tools.bodies, tools.product)

    async def attempt(self, delivery: Delivery) -> Result:
        """Make the next attempt and note it in `delivery`; never raises but for cancellation."""
        event = delivery.event
        own_url = event.webhook_url is None or not self._endpoint.config.overridable
        steps = self._steps(event, own_url)
        step = steps[min(delivery.step, len(steps) - 1)]
        attempt = await self._send(delivery, self._url(event, step, own_url))
        now = self._tools.clock.now()
        dialect = self._endpoint.dialect
        outcome = judge(delivery, attempt, dialect, steps, now, self._tools.luck, own_url=own_url)
        delivery.note(attempt.record(delivery.attempts + 1))
        delivery.status, delivery.code, delivery.error = outcome.status, attempt.status, attempt.error
        delivery.step += outcome.charged and outcome.status == "retrying"
        delivery.due = None if outcome.wait is None else math.ceil((now + outcome.wait) * 1000)
        self._tools.metrics.attempted(outcome.status, attempt)
        return Result(attempt, outcome, own_url)

    async def _send(self, delivery: Delivery, url: str) -> Attempt:
        now = self._tools.clock.now()
        try:
            request = self._stationery.request(delivery.event, delivery.attempts + 1, url, now)
        except ValueError as error:
            return Attempt(url, now, {}, Phases(0.0), error="unrenderable", detail=str(error)[:300])
        except Exception as error:
            # Whatever this is, the receiver is not to blame, and the event must not stay in flight for ever.
            log.exception("courier.failed id=%s", self._endpoint.id)
            return Attempt(url, now, {}, Phases(0.0), error="internal", detail=type(error).__name__)
        if delivery.trigger == "event" and not delivery.attempts:
            self._tools.metrics.added_latency(max(0.0, now - milliseconds(delivery.event.id) / 1000))
        return await self._tools.sender.post(url, request.headers, request.body, self._endpoint.timeout)

    def _steps(self, event: Event, own_url: bool) -> tuple[Step, ...]:
        if own_url:
            return self._endpoint.steps
        has_failover = event.webhook_failover_url is not None
        return plan(self._endpoint.dialect, self._endpoint.config.retry, failover=has_failover)

    def _url(self, event: Event, step: Step, own_url: bool) -> str:
        config = self._endpoint.config
        url, failover = (
            (config.url, config.failover_url) if own_url else (event.webhook_url, event.webhook_failover_url)
        )
        return (failover if step.failover else url) or config.url
