"""How one endpoint is doing, learnt from the attempts on its own URL: breaker, patience, and when to give up."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.bridge.attempt import Attempt
from gateway.bridge.breaker import Breaker
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.ledger import Commit
from gateway.bridge.notices import Notices
from gateway.bridge.outcome import Outcome

log = logging.getLogger("gateway.bridge")


class Health:
    """`quiet_until` is Unix time in seconds: the receiver asked to hear nothing before."""

    def __init__(self, endpoint: Endpoint, failing_since: float | None, luck: Callable[[], float]) -> None:
        self.breaker = Breaker(endpoint.config.max_in_flight, failing_since, luck)
        self.quiet_until = 0.0

    def permits(self, now: float) -> bool:
        """Whether an attempt may start, as far as the endpoint's state goes."""
        return now >= self.quiet_until and self.breaker.permits(now)

    def learn(
        self, endpoint: Endpoint, outcome: Outcome, attempt: Attempt, now: float, notices: Notices, commit: Commit
    ) -> str | None:
        """Take in an outcome; what is to be stored and told goes into `commit`. Why to disable it, or None."""
        breaker = self.breaker
        since = breaker.failing_since
        if outcome.pause:
            self.quiet_until = max(self.quiet_until, now + outcome.pause)
        reason = None
        if outcome.status == "delivered":
            if breaker.succeeded():
                commit.outbox.append(notices.recovered(since or now))
        elif outcome.gone:
            reason = "gone"
        elif attempt.status == 429:
            breaker.troubled(now)
        elif outcome.blames_receiver and breaker.failed(now):
            commit.outbox.append(notices.failing(breaker.failing_since or now, attempt))
            log.warning("endpoint.failing id=%s error=%s status=%s", endpoint.id, attempt.error, attempt.status)
        if reason is None and outcome.status != "delivered" and breaker.hopeless(now):
            reason = "failing"
        if breaker.failing_since != since:
            commit.state["failing_since"] = "" if breaker.failing_since is None else repr(breaker.failing_since)
        return reason
