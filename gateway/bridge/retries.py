"""The retries of one endpoint that are due: read from the ledger a few at a time, however many are waiting there."""

from __future__ import annotations

from collections import deque

from gateway.bridge.delivery import Delivery
from gateway.bridge.ledger import Ledger

_LOADED = 32


class Retries:
    """`count` is how many the ledger holds, as far as this owner knows; `next_due` Unix ms of the earliest unread."""

    def __init__(self, endpoint_id: str, ledger: Ledger, count: int, next_due: int | None) -> None:
        self.count = count
        self.next_due = next_due
        self._endpoint_id = endpoint_id
        self._ledger = ledger
        self._ready: deque[Delivery] = deque()
        self._busy: set[str] = set()

    def take(self) -> Delivery | None:
        """A delivery that is due."""
        return self._ready.popleft() if self._ready else None

    @property
    def any(self) -> bool:
        """Whether any delivery is not settled yet, here or in the ledger."""
        return bool(self.count or self._busy)

    @property
    def ready(self) -> bool:
        """Whether `take` has one."""
        return bool(self._ready)

    def wants_read(self, now: float) -> bool:
        """Whether the ledger has due ones that are not here."""
        return not self._ready and self.next_due is not None and self.next_due <= now * 1000

    def scheduled(self, due: int) -> None:
        """One more was put into the ledger, or an old one has a new time."""
        if self.next_due is None or due < self.next_due:
            self.next_due = due

    def written(self, delivery: Delivery) -> None:
        """The ledger has the delivery as it is now, so it may be read from there again."""
        self._busy.discard(delivery.id)
        if delivery.due is not None:
            self.scheduled(delivery.due)

    def busy(self, delivery: Delivery) -> None:
        """The delivery is in our hands: what the ledger says of it is old."""
        self._busy.add(delivery.id)

    async def read(self, now: float) -> None:
        """Fetch what is due. Raises when Redis is away."""
        found, self.count = await self._ledger.retries(self._endpoint_id, _LOADED + len(self._busy))
        fresh = [(due, id_) for due, id_ in found if id_ not in self._busy]
        due_ids = [id_ for due, id_ in fresh if due <= now * 1000]
        later = [due for due, id_ in fresh if due > now * 1000]
        more = len(found) < self.count
        # Nothing later was seen, but there is more behind what was read: look again when these are done.
        self.next_due = later[0] if later else (int(now * 1000) if more and due_ids else None)
        if not due_ids:
            return
        for delivery in await self._ledger.retry_bodies(self._endpoint_id, due_ids):
            if delivery.id not in self._busy:
                self._busy.add(delivery.id)
                self._ready.append(delivery)

    def forget(self) -> None:
        """Give back what was read and not taken; it is still in the ledger."""
        while self._ready:
            delivery = self._ready.popleft()
            self._busy.discard(delivery.id)
            if delivery.due is not None:
                self.scheduled(delivery.due)
