"""A replay: an endpoint gets a part of its stream once more, however often bridges end meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson

from gateway.events.position import EventId, format_id, parse_id


@dataclass(frozen=True, slots=True)
class Job:
    """A replay as stored: from `position` (exclusive) to `until` (inclusive). `created` is Unix ms."""

    id: str
    position: EventId
    until: EventId
    status: str
    created: int
    delivered: int = 0

    def dump(self) -> bytes:
        """As JSON."""
        return orjson.dumps(
            {
                "id": self.id,
                "position": format_id(self.position),
                "until": format_id(self.until),
                "status": self.status,
                "created": self.created,
                "delivered": self.delivered,
            }
        )

    @classmethod
    def load(cls, raw: bytes) -> Job:
        """What `dump` made."""
        fields = orjson.loads(raw)
        return cls(**{**fields, "position": parse_id(fields["position"]), "until": parse_id(fields["until"])})


CANCELLED: Final = ":cancelled"
"""A field of its own beside a job's: the owner, who writes the job, cannot overwrite what somebody else decided."""


def read_jobs(stored: Mapping[str, bytes]) -> list[Job]:
    """The replays of an endpoint as the ledger holds them."""
    jobs = [Job.load(raw) for name, raw in stored.items() if not name.endswith(CANCELLED)]
    return [
        replace(job, status="cancelled") if job.status == "running" and job.id + CANCELLED in stored else job
        for job in jobs
    ]
