"""Replays as people ask for them: begin, look, cancel. The pump does them."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Final

from gateway.bridge.blame import only, unprocessable
from gateway.bridge.bridge import Bridge
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.job import CANCELLED, Job, read_jobs
from gateway.bridge.since import read_position
from gateway.errors import Problem
from gateway.events.event import format_time
from gateway.events.position import EventId, format_id

KEPT: Final = 20
"""Replays of an endpoint that have ended and can still be looked at."""
_HEARD_OF: Final = 3_600_000
"""Milliseconds after which every bridge knows of a cancellation."""


class Replays:
    """Raises `Problem`, and what Redis raises."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def begin(self, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
        """Begin to deliver again what lies after ``since``, up to ``until`` (default: now)."""
        only(body, "since", "until")
        info = await self._bridge.log.store.info(endpoint.config.stream)
        start, until = (
            self._position(body, name, default, info.start, info.last_id)
            for name, default in (("since", None), ("until", "latest"))
        )
        now = int(self._bridge.clock.now() * 1000)
        job = Job("rpl_" + secrets.token_hex(8), start, min(until, info.last_id), "running", now)
        await self._bridge.ledger.put_replay(endpoint.id, job.id, job.dump())
        await self._bridge.registry.announce(endpoint.id)
        await self._forget_old(endpoint, now)
        return _job(job)

    async def _forget_old(self, endpoint: Endpoint, now: int) -> None:
        """Keep the newest that have ended; those that run are kept anyway."""
        jobs = read_jobs(await self._bridge.ledger.replays(endpoint.id))
        ended = sorted((job for job in jobs if job.status != "running"), key=lambda job: -job.created)
        # The owner of the endpoint may not have heard of a cancellation yet: without it the job would come back.
        old = [job.id for job in ended[KEPT:] if job.status == "done" or job.created < now - _HEARD_OF]
        if old:
            await self._bridge.ledger.drop_replays(endpoint.id, old)

    async def every(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """All replays, newest first."""
        jobs = read_jobs(await self._bridge.ledger.replays(endpoint.id))
        return [_job(job) for job in sorted(jobs, key=lambda job: -job.created)]

    async def cancel(self, endpoint: Endpoint, job_id: str) -> dict[str, Any]:
        """Deliver nothing more of it but what is in flight."""
        jobs = read_jobs(await self._bridge.ledger.replays(endpoint.id))
        job = next((job for job in jobs if job.id == job_id), None)
        if job is None:
            raise Problem(404, f"there is no replay {job_id[:80]} of {endpoint.id}")
        if job.status == "running":
            job = replace(job, status="cancelled")
            await self._bridge.ledger.put_replay(endpoint.id, job.id + CANCELLED, b"1")
            await self._bridge.registry.announce(endpoint.id)
        return _job(job)

    def _position(
        self, body: dict[str, Any], name: str, default: str | None, earliest: EventId, latest: EventId
    ) -> EventId:
        try:
            value = body.get(name, default)
            return read_position(value, self._bridge.clock.now(), earliest=earliest, latest=latest)
        except ValueError as error:
            raise unprocessable(name, str(error)) from None


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "position": format_id(job.position),
        "until": format_id(job.until),
        "createdAt": format_time(job.created),
    }
