"""One request on its way to its answer, over one connection, or a second one where the first was dead already."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.bridge.attempt import Attempt, ErrorClass
from gateway.bridge.http.target import Target

if TYPE_CHECKING:
    from gateway.bridge.http.connection import Connection


class Exchange:
    """`done` is called once with the attempt, unless it is cancelled before. `renew` has it sent again elsewhere.

    It is in `slot`, with what else expires then, until it is over.
    """

    __slots__ = ("_done", "_renew", "attempt", "body", "connection", "dialing", "head", "slot", "target")

    def __init__(
        self,
        attempt: Attempt,
        body: bytes,
        done: Callable[[Attempt], None],
        renew: Callable[[Exchange], None],
    ) -> None:
        self.attempt = attempt
        self.head = b""
        self.body = body
        self.target: Target
        self.connection: Connection | None = None
        self.dialing: asyncio.Task[None] | None = None
        self.slot: set[Exchange]
        self._done: Callable[[Attempt], None] | None = done
        self._renew = renew

    def finish(self) -> None:
        """The attempt says how it ended."""
        done = self._release()
        if done is not None:
            phases = self.attempt.phases
            phases.total = time.monotonic() - phases.begun
            done(self.attempt)

    def fail(self, error: ErrorClass, detail: str) -> None:
        """It ended without an answer; or with one, whose status is a verdict whatever happens to the body."""
        if self.attempt.status is None:
            self.attempt.error = error
            self.attempt.detail = detail[:300]
        self.finish()

    def lost(self, detail: str, *, stale: bool) -> None:
        """The connection ended. `stale`: it had been used before, and not a byte of this answer came.

        Then the receiver has most likely closed it while it lay idle, so the request goes out once more, on a new one.
        It may be that it was taken after all: the delivery is at least once, and the id is the same.
        """
        self.connection = None
        if stale:
            self._renew(self)
        else:
            self.fail("disconnected", detail)

    def abort(self, error: ErrorClass, detail: str) -> None:
        """End it now, wherever it is."""
        self._drop()
        self.fail(error, detail)

    def expire(self) -> None:
        """The deadline has passed."""
        self.abort("timeout", "TimeoutError: the deadline has passed")

    def cancel(self) -> None:
        """Stop; nobody is told."""
        self._release()
        self._drop()

    def _release(self) -> Callable[[Attempt], None] | None:
        done, self._done = self._done, None
        self.slot.discard(self)
        return done

    def _drop(self) -> None:
        if self.dialing is not None:
            self.dialing.cancel()
            self.dialing = None
        if self.connection is not None:
            self.connection.drop()
            self.connection = None
