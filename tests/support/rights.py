"""What a caller may see, worked out the slow way: an oracle for `gateway.access`, sharing none of its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.oracle import matches, star_matches

PROBES = [
    "a", "b", "c", "ns", "ns.one", "ns.two", "ns.x", "ns.", "nsx", "ns.one.two", "a.x", "a.y", "b.x", "c.z", "a.b.c",
    "x", "xx", "a.", ".x", "abc", "z", "x.one", "q.y", "a.q.y",
]  # fmt: skip
"""Names enough to tell whether one glob reaches further than another."""


@dataclass(frozen=True)
class Caller:
    """A row of the matrix. `carrier` is header, jwt, query, cookie or ticket."""

    name: str
    scopes: str = "subscribe"
    rights: Mapping[str, Any] = field(default_factory=dict)
    carrier: str = "header"

    def has(self, scope: str) -> bool:
        return scope in self.scopes.split() or "admin" in self.scopes.split()

    def reads(self, stream: str) -> bool:
        if stream.startswith("gateway:") and not self.has("admin"):
            return False
        return "streams" not in self.rights or any(star_matches(g, stream) for g in self.rights["streams"])

    def sees(self, event: Mapping[str, Any]) -> bool:
        rights = self.rights
        return (
            self.reads(event["stream"])
            and ("tenant" not in rights or event.get("tenant") == rights["tenant"])
            and all(
                part not in rights or any(star_matches(g, event[name]) for g in rights[part])
                for part, name in (("channels", "channel"), ("types", "type"))
            )
        )

    def may_ask(self, streams: Sequence[str], channels: Sequence[str], types: Sequence[str]) -> bool:
        """Whether nothing is asked for by name that is not allowed; ``*`` asks for whatever is."""
        return (
            self.has("subscribe")
            and all(self.reads(stream) for stream in streams)
            and self._covers("channels", channels)
            and self._covers("types", types)
        )

    def _covers(self, part: str, asked: Sequence[str]) -> bool:
        if part not in self.rights or "*" in asked:
            return True
        wanted = [probe for probe in PROBES if asked and matches(asked, probe)]
        return all(any(star_matches(g, probe) for g in self.rights[part]) for probe in wanted)


def visible(
    caller: Caller,
    events: Sequence[Mapping[str, Any]],
    streams: Sequence[str],
    channels: Sequence[str],
    types: Sequence[str],
) -> list[int]:
    """The numbers of `events` that `caller` gets, who asks for that."""
    return [
        event["n"]
        for event in events
        if event["stream"] in streams
        and caller.sees(event)
        and matches([] if "*" in channels else channels, event["channel"])
        and matches([] if "*" in types else types, event["type"])
    ]
