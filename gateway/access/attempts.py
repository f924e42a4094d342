"""How many credentials one address may try that memory does not know, and whether somebody is trying many. Pure.

What memory can tell, it tells at any rate; what only Redis or a key set can tell, a key made a moment ago or a ticket,
holds a request until that has answered.  A good one is forgiven, so only bad ones count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_MANY: Final = 20
"""Refusals in a second that are no longer somebody's mistake."""


class Attempts:
    """Counts by the second. `most` is for one address, 0 = no limit; `clock` is monotonic seconds."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._second = 0
        # By hash: a credential is not kept, and one that a thousand clients send is one. All of it goes in a second.
        self._tried: dict[str | None, set[int]] = {}
        self._refused = self._refused_before = 0

    def __repr__(self) -> str:
        return f"<Attempts {len(self._tried)} addresses, {self._refused} refused>"

    @property
    def many(self) -> bool:
        """Whether this second, or the one before, has seen many refusals."""
        if not (self._refused or self._refused_before):
            return False  # the clock need not be asked, and this is asked for each connection
        self._turn()
        return self._refused >= _MANY or self._refused_before >= _MANY

    def refused(self) -> None:
        """Somebody was turned away."""
        self._turn()
        self._refused += 1

    def over(self, address: str | None, credential: str) -> bool:
        """Whether `address` has tried so many others already that this one need not be looked at."""
        self._turn()
        tried = self._tried.get(address, ())
        return 0 < self._most <= len(tried) and hash(credential) not in tried

    def begin(self, address: str | None, credential: str) -> None:
        """It is looked at."""
        self._turn()
        self._tried.setdefault(address, set()).add(hash(credential))

    def forgive(self, address: str | None, credential: str) -> None:
        """It was good."""
        self._tried.get(address, set()).discard(hash(credential))

    def _turn(self) -> None:
        second = int(self._clock())
        if second != self._second:
            self._refused_before = self._refused if second == self._second + 1 else 0
            self._refused = 0
            self._tried = {}
            self._second = second
