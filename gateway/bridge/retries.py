"""The retries of one endpoint that are due: read from the ledger a few at a time, however many are waiting there."""

from __future__ import annotations

from collections import deque

from gateway.bridge.delivery import Delivery
from gateway.bridge.ledger import Ledger

_LOADED = 32


class Retries:
    """`stored` is how many the ledger holds; `next_due` Unix ms of the earliest that is not here."""

    def __init__(self, endpoint_id: str, ledger: Ledger, stored: int, next_due: int | None) -> None:
        self.next_due = next_due
        self._stored = stored
        self._endpoint_id = endpoint_id
        self._ledger = ledger
        self._ready: deque[Delivery] = deque()
        self._busy: set[str] = set()
        """In our hands: what the ledger says of them is old."""
        self._change: dict[str, int] = {}
        """What the ledger will hold more or less of, once it is written."""
        self._version = 0

    @property
    def count(self) -> int:
        """How many deliveries wait for another attempt."""
        return self._stored + sum(self._change.values())

    @property
    def any(self) -> bool:
        """Whether any delivery is not settled yet, here or in the ledger."""
        return bool(self.count or self._busy)

    @property
    def ready(self) -> bool:
        """Whether `take` has one."""
        return bool(self._ready)

    def take(self) -> Delivery | None:
        """A delivery that is due."""
        return self._ready.popleft() if self._ready else None

    def wants_read(self, now: float) -> bool:
        """Whether the ledger has due ones that are not here."""
        return not self._ready and self.next_due is not None and self.next_due <= now * 1000

    def look(self) -> None:
        """Somebody else has put one into the ledger."""
        self.next_due = 0

    def settled(self, delivery: Delivery) -> None:
        """An attempt has ended; with `due` set there will be another."""
        if delivery.due is not None:
            self._busy.add(delivery.id)
            if not delivery.in_retries:
                self._change[delivery.id] = 1
                delivery.in_retries = True
        elif delivery.in_retries:
            self._change[delivery.id] = -1

    def written(self, delivery: Delivery) -> None:
        """The ledger has the delivery as it is now, so it may be read from there again."""
        self._version += 1
        self._stored += self._change.pop(delivery.id, 0)
        self._busy.discard(delivery.id)
        if delivery.due is not None and (self.next_due is None or delivery.due < self.next_due):
            self.next_due = delivery.due

    async def read(self, now: float) -> None:
        """Fetch what is due. Raises when Redis is away."""
        version = self._version
        found, stored = await self._ledger.retries(self._endpoint_id, _LOADED + len(self._busy))
        fresh = [(due, id_) for due, id_ in found if id_ not in self._busy]
        due_ids = [id_ for due, id_ in fresh if due <= now * 1000]
        bodies = await self._ledger.retry_bodies(self._endpoint_id, due_ids) if due_ids else []
        if version != self._version:
            return  # something was written meanwhile, so this may be older than what we know: read again
        self._stored = stored
        later = [due for due, id_ in fresh if due > now * 1000]
        # None of what lies further back was seen: look again when these are done.
        more = len(found) < stored and bool(due_ids)
        self.next_due = later[0] if later else int(now * 1000) if more else None
        for delivery in bodies:
            self._busy.add(delivery.id)
            self._ready.append(delivery)
