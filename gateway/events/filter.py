"""Which events a consumer wants: globs over channel and type, and a tenant.

A `Filter` is a value: equal filters are equal objects for hashing, whatever order their parts came in, because
subscribers with equal filters share one cohort.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gateway.events.event import Event, Skipped

MAX_GLOBS = 256
MAX_GLOB_LENGTH = 128

CHANNEL_GLOB = re.compile(r"[A-Za-z0-9_.:/@*-]{1,128}\Z")
TYPE_GLOB = re.compile(r"[A-Za-z0-9_.*-]{1,128}\Z")
STREAM_GLOB = re.compile(r"[A-Za-z0-9_.:{}*-]{1,128}\Z")


def glob_matches(pattern: str, text: str) -> bool:
    """Whether `pattern` matches the whole of `text`. ``*`` is one or more characters, all else is literal.

    Time is linear in the length of `text` for each part between stars: leftmost matching of the parts is enough, so
    there is nothing to backtrack over (a translation to a regular expression would be open to catastrophic input).
    """
    return _fits(pattern.split("*"), text)


def _fits(parts: Sequence[str], text: str) -> bool:
    """`glob_matches` for a pattern split at its stars."""
    if len(parts) == 1:
        return parts[0] == text
    first, last = parts[0], parts[-1]
    if not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        # one character at least for the star before `part`
        found = text.find(part, at + 1, end)
        if found < 0:
            return False
        at = found + len(part)
    return at + 1 <= end


class GlobSet:
    """A set of globs, OR among themselves. Immutable and hashable; ``None`` in a `Filter` stands for "everything"."""

    __slots__ = ("_hash", "_patterns", "exact", "globs")

    def __init__(self, globs: Iterable[str]) -> None:
        self.globs = tuple(sorted(set(globs)))
        self.exact = frozenset(glob for glob in self.globs if "*" not in glob)
        self._patterns = tuple(tuple(glob.split("*")) for glob in self.globs if "*" in glob)
        self._hash = hash(self.globs)

    @property
    def heads(self) -> frozenset[str]:
        """What its globs with a star begin with, up to that."""
        return frozenset(parts[0] for parts in self._patterns)

    def __contains__(self, text: str) -> bool:
        return text in self.exact or any(_fits(parts, text) for parts in self._patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GlobSet) and self.globs == other.globs

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"GlobSet({', '.join(self.globs)})"


def _glob_set(values: Iterable[str], what: str, allowed: re.Pattern[str], characters: str) -> GlobSet | None:
    globs = list(values)
    if not globs:
        return None
    if len(globs) > MAX_GLOBS:
        raise ValueError(f"at most {MAX_GLOBS} values are allowed, got {len(globs)}")
    for glob in globs:
        if not glob:
            raise ValueError(f"an empty {what} matches nothing; leave the parameter out to get everything")
        if allowed.match(glob) is None:
            raise ValueError(f"{glob[:64]!r} cannot match any {what}: 1 to 128 characters of {characters} and *")
    return None if "*" in globs else GlobSet(globs)


def channel_globs(values: Iterable[str]) -> GlobSet | None:
    """Globs over channels; None for no values or a lone ``*``. Raises `ValueError` on one that can match nothing."""
    return _glob_set(values, "channel", CHANNEL_GLOB, "A-Z a-z 0-9 _ . : / @ -")


def type_globs(values: Iterable[str]) -> GlobSet | None:
    """Globs over event types; None for no values or a lone ``*``. Raises `ValueError` likewise."""
    return _glob_set(values, "event type", TYPE_GLOB, "A-Z a-z 0-9 _ . -")


def stream_globs(values: Iterable[str]) -> GlobSet | None:
    """Globs over stream keys. Raises `ValueError` likewise."""
    return _glob_set(values, "stream", STREAM_GLOB, "A-Z a-z 0-9 _ . : { } -")


@dataclass(frozen=True, slots=True)
class Filter:
    """What to let through. Each part is None for "everything"; parts are ANDed.

    `channels` and `types` are the consumer's wish; `allowed_channels` and `allowed_types` are what its credentials
    permit, kept apart because a glob asked for may be wider than the one permitted.
    """

    channels: GlobSet | None = None
    types: GlobSet | None = None
    tenant: str | None = None
    allowed_channels: GlobSet | None = None
    allowed_types: GlobSet | None = None

    def accepts(self, tenant: str | None, channel: str, type_: str) -> bool:
        """Whether an event with these three attributes passes. All other attributes are of no account."""
        return (
            (self.tenant is None or tenant == self.tenant)
            and (self.channels is None or channel in self.channels)
            and (self.types is None or type_ in self.types)
            and (self.allowed_channels is None or channel in self.allowed_channels)
            and (self.allowed_types is None or type_ in self.allowed_types)
        )

    def could_accept(self, entry: Skipped) -> bool:
        """Whether the skipped entry might have passed, had it been whole: an attribute that is not known passes.

        Not so for the tenant and what is allowed: nobody learns of an entry that is not surely theirs.
        """
        channel, type_ = entry.channel, entry.type
        return (
            (self.tenant is None or entry.tenant == self.tenant)
            and (self.channels is None or channel is None or channel in self.channels)
            and (self.types is None or type_ is None or type_ in self.types)
            and (self.allowed_channels is None or (channel is not None and channel in self.allowed_channels))
            and (self.allowed_types is None or (type_ is not None and type_ in self.allowed_types))
        )

    @property
    def is_everything(self) -> bool:
        """Whether every event passes."""
        return self == EVERYTHING


EVERYTHING = Filter()


@lru_cache(maxsize=1024)
def predicate(filter_: Filter) -> Callable[[Event], bool] | None:
    """`filter_` as a function of an event, with a memo: there are few (tenant, channel, type) and many events.

    None when every event passes.
    """
    if filter_.is_everything:
        return None
    memo: dict[tuple[str | None, str, str], bool] = {}

    def accepts(event: Event) -> bool:
        key = (event.tenant, event.channel, event.type)
        verdict = memo.get(key)
        if verdict is None:
            if len(memo) >= 1024:  # attributes are the publisher's to choose; they must not grow our memory
                memo.clear()
            verdict = memo[key] = filter_.accepts(*key)
        return verdict

    return accepts
