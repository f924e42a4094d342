"""Makes the attempts of one endpoint: which URL, which request, and what the answer means for the delivery."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from gateway.bridge.attempt import Attempt, ErrorClass, Phases
from gateway.bridge.delivery import Delivery
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.outcome import Outcome, judge
from gateway.bridge.render import Stationery
from gateway.bridge.schedule import Step, plan
from gateway.bridge.tools import Sending, Tools
from gateway.events.event import Event
from gateway.events.position import milliseconds

log = logging.getLogger("gateway.bridge")


class Result(NamedTuple):
    """`own_url`: the URL was the endpoint's, so the outcome says something of the endpoint. `at` is Unix seconds."""

    attempt: Attempt
    outcome: Outcome
    own_url: bool
    at: float


class Courier:
    """For one endpoint as it is now; a changed endpoint gets a new one."""

    def __init__(self, endpoint: Endpoint, tools: Tools) -> None:
        self._endpoint = endpoint
        self._config = endpoint.config
        self._dialect = endpoint.dialect
        self._timeout = endpoint.timeout
        self._tools = tools
        self._stationery = Stationery(endpoint, tools.bodies, tools.product)

    def brought(self, delivery: Delivery) -> str | None:
        """The URL that the event brings, where it takes the place of the endpoint's."""
        return delivery.event.webhook_url if self._config.overridable else None

    def start(self, delivery: Delivery, now: float, done: Callable[[Result], None]) -> Sending:
        """Start the next attempt at `delivery`; `done` is called later, when it was noted there. `now`: Unix time."""
        event = delivery.event
        own_url = event.webhook_url is None or not self._config.overridable
        steps = self._endpoint.steps if own_url else self._steps(event)
        url = self._url(event, steps[min(delivery.step, len(steps) - 1)], own_url)
        landed = partial(self._landed, delivery, steps, own_url, done)
        try:
            request = self._stationery.request(event, delivery.attempts + 1, url, now)
        except ValueError as error:
            return _unsent(landed, url, now, "unrenderable", str(error)[:300])
        except Exception as error:
            # Whatever this is, the receiver is not to blame, and the event must not stay in flight for ever.
            log.exception("courier.failed id=%s", self._endpoint.id)
            return _unsent(landed, url, now, "internal", type(error).__name__)
        if not delivery.attempts and delivery.trigger == "event":
            self._tools.metrics.added_latency(max(0.0, now - milliseconds(event.id) / 1000))
        return self._tools.sender.send(url, request.headers, request.body, self._timeout, landed)

    def _landed(
        self,
        delivery: Delivery,
        steps: Sequence[Step],
        own_url: bool,
        done: Callable[[Result], None],
        attempt: Attempt,
    ) -> None:
        now = self._tools.clock.now()
        outcome = judge(delivery, attempt, self._dialect, steps, now, self._tools.luck, own_url=own_url)
        delivery.note(attempt.record(delivery.attempts + 1))
        delivery.status, delivery.code, delivery.error = outcome.status, attempt.status, attempt.error
        delivery.step += outcome.charged and outcome.status == "retrying"
        delivery.due = None if outcome.wait is None else math.ceil((now + outcome.wait) * 1000)
        self._tools.metrics.attempted(outcome.status, attempt)
        done(Result(attempt, outcome, own_url, now))

    def _steps(self, event: Event) -> tuple[Step, ...]:
        return plan(self._dialect, self._config.retry, failover=event.webhook_failover_url is not None)

    def _url(self, event: Event, step: Step, own_url: bool) -> str:
        config = self._config
        if own_url:
            return (config.failover_url if step.failover else None) or config.url
        return (event.webhook_failover_url if step.failover else event.webhook_url) or config.url


def _unsent(landed: Callable[[Attempt], None], url: str, now: float, error: ErrorClass, detail: str) -> Sending:
    # Later, as an answer would come: whoever starts attempts in a loop must not be called from within it.
    return asyncio.get_running_loop().call_soon(landed, Attempt(url, now, {}, Phases(0.0), error=error, detail=detail))
