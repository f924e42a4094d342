"""Does the way to a gateway let a stream through? Measured by reading only: nothing is published.

When a stream opens, the gateway writes at once: headers, a ``retry:`` line with a comment, and, where nothing is to be
replayed, ``gateway.caught-up``.  A proxy that buffers holds them back, one that gathers small writes (HAProxy without
``option http-no-delay``) delays what comes after the headers.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

from gateway.backend.inspection import Finding
from gateway.cli.client import Refused, reason, refused
from gateway.cli.eventstream import EventStream

# Seconds beyond a round trip. HAProxy's delay is about 0.2 s; no network explains one second.
_SLOW = 0.15
_LATE = 1.0


@dataclass(slots=True)
class Probe:
    """What was seen. Times are seconds since the request was sent; None: it did not come."""

    round_trip: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    headers_after: float | None = None
    first_bytes_after: float | None = None
    caught_up_after: float | None = None
    heartbeat_after: float | None = None
    ended_after: float | None = None
    compressed: bool = False

    def findings(self, idle: float) -> list[Finding]:
        """The verdicts, for a probe that stayed `idle` seconds."""
        if self.headers_after is None or self.first_bytes_after is None:
            what = "nothing" if self.headers_after is None else "headers, but no data"
            return [Finding("error", f"the stream is buffered on the way: {what} came; switch response buffering off")]
        found = [*self._writes(self.first_bytes_after), *self._header_findings()]
        if idle:
            found.append(self._idle(idle))
        return found

    @property
    def delay(self) -> float | None:
        """Seconds that the first bytes, or the event after them, took beyond a round trip; None: they did not come."""
        if self.first_bytes_after is None or self.caught_up_after is None:
            return None
        return max(self.first_bytes_after - self.round_trip, self.caught_up_after - self.first_bytes_after)

    def _writes(self, first_bytes_after: float) -> list[Finding]:
        opening = Finding("ok", f"first bytes after {_ms(first_bytes_after)} (round trip {_ms(self.round_trip)})")
        if self.delay is None:
            text = "the first bytes came, the event after them did not: the stream is held back on the way"
            return [opening, Finding("error", text)]
        if self.delay > _LATE:
            return [opening, Finding("error", f"the stream is held back on the way, by {self.delay:.1f} s")]
        if self.delay > _SLOW:
            hint = "HAProxy: option http-no-delay"
            return [opening, Finding("warning", f"small writes are delayed on the way, by {_ms(self.delay)} ({hint})")]
        return [opening, Finding("ok", "events pass without delay")]

    def _header_findings(self) -> list[Finding]:
        found = []
        if self.compressed:
            found.append(Finding("warning", "the stream is compressed on the way, which can hold events back"))
        if "no-transform" not in self.headers.get("cache-control", ""):
            found.append(Finding("warning", "Cache-Control: no-transform was removed on the way"))
        via = self.headers.get("via") or self.headers.get("server")
        found.append(Finding("ok", f"answered by {via}" if via else "no proxy names itself"))
        return found

    def _idle(self, idle: float) -> Finding:
        if self.ended_after is not None:
            return Finding(
                "error", f"the idle stream was cut after {self.ended_after:.1f} s: raise the proxy's read timeout"
            )
        if self.heartbeat_after is None:
            return Finding("warning", f"no heartbeat within {idle:g} s (GATEWAY_HEARTBEAT is 15 s by default)")
        return Finding("ok", f"a heartbeat after {self.heartbeat_after:.1f} s of silence")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


async def probe(session: aiohttp.ClientSession, url: str, *, patience: float = 3.0, idle: float = 0.0) -> Probe:
    """Open a stream, wait up to `patience` seconds for its opening, then `idle` seconds for a heartbeat.

    Raises `Refused`, or one of `gateway.cli.client.UNREACHABLE`.
    """
    seen = Probe(round_trip=await _round_trip(session, url))
    began = time.monotonic()
    # What a browser sends: a proxy that compresses event streams shows it only when it may.
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate"}
    try:
        async with asyncio.timeout(patience) as deadline:
            async with session.get(f"{url}/api/events", headers=headers, params={"since": "latest"}) as response:
                seen.headers_after = time.monotonic() - began
                if response.status != 200:
                    raise await refused(response)
                seen.headers = {name.lower(): value for name, value in response.headers.items()}
                seen.compressed = "content-encoding" in seen.headers
                await _watch(response, seen, began, deadline, idle)
    except TimeoutError:
        pass
    except aiohttp.ClientPayloadError:  # cut inside the chunked body: how a proxy's idle timeout looks
        seen.ended_after = time.monotonic() - began
    return seen


async def _round_trip(session: aiohttp.ClientSession, url: str) -> float:
    """The fastest of three answers to /healthz, the first of which pays for the connection."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        async with session.get(f"{url}/healthz") as response:
            await response.read()
            if response.status != 200:
                raise await refused(response)
        times.append(time.monotonic() - began)
    return min(times)


async def _watch(
    response: aiohttp.ClientResponse, seen: Probe, began: float, deadline: asyncio.Timeout, idle: float
) -> None:
    stream = EventStream()
    comments = 0
    async for chunk in response.content.iter_any():
        after = time.monotonic() - began
        if seen.first_bytes_after is None:
            seen.first_bytes_after = after
        events = stream.feed(chunk)
        if seen.caught_up_after is not None and stream.comments > comments:
            seen.heartbeat_after = after - seen.caught_up_after
            return
        if seen.caught_up_after is None and any(event.type == "gateway.caught-up" for event in events):
            seen.caught_up_after = after
            if not idle:
                return
            deadline.reschedule(asyncio.get_running_loop().time() + idle)
        comments = stream.comments
    seen.ended_after = time.monotonic() - began


async def check(session: aiohttp.ClientSession, url: str, idle: float) -> list[Finding]:
    """The verdicts on the gateway at `url` and on the way to it; an unreachable one is an ``error``."""
    try:
        seen = await probe(session, url)
        if seen.delay is not None and (idle or seen.delay > _SLOW):
            # The first stream may have paid for what a process does once; the second shows the way itself.
            seen = await probe(session, url, idle=idle)
    except Refused as error:
        return [Finding("error", f"{url} answered {error}")]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return [Finding("error", f"cannot reach {url}: {reason(error)}")]
    return [await _ready(session, url), *seen.findings(idle)]


async def _ready(session: aiohttp.ClientSession, url: str) -> Finding:
    async with session.get(f"{url}/readyz") as response:
        if response.status == 200:
            return Finding("ok", "ready")
        return Finding("error", f"not ready: {(await response.text())[:200]}")
