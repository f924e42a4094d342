"""Metrics (Prometheus) and the form of log lines.

Labels come from closed sets only: never an id, a channel or a URL that a client chose.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.events.event import Entry, Skipped

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where workers keep their metrics for each other; prometheus_client reads this variable when it is imported."""

_LAG = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Telemetry:
    """The metrics of one process, in a registry of their own."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        self.connections = gauge("gateway_connections", "Open subscriptions", ["representation"])
        self._open = {name: self.connections.labels(name) for name in ("sse", "ndjson")}
        self.connections_closed = counter(
            "gateway_connections_closed", "Subscriptions that ended, by reason", ["reason"]
        )
        self.events_read = counter("gateway_events_read", "Events read from Redis at the tail of streams")
        self.events_published = counter("gateway_events_published", "Events added over HTTP")
        self.events_skipped = counter(
            "gateway_events_skipped", "Entries passed over because they break a rule", ["reason"]
        )
        self.frames_written = counter("gateway_frames_written", "Events written to subscribers")
        self.bytes_written = counter("gateway_bytes_written", "Bytes of body written to subscribers")
        self.fallbacks = counter(
            "gateway_fallbacks", "Times a slow subscriber left the live lane to catch up by itself"
        )
        self.replays = counter("gateway_replays", "Subscriptions that began before the tail, by source", ["source"])
        self.events_replayed = counter("gateway_events_replayed", "Events written during replays")
        self.gaps = counter("gateway_gaps", "Gaps told to subscribers", ["reason"])
        self.redis_connects = counter("gateway_redis_connects", "Times a reader reached Redis, at first or again")
        self.redis_up = Gauge(
            "gateway_redis_up",
            "1 while the readers reach Redis, else 0",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.events_trimmed = counter("gateway_events_trimmed", "Events dropped by retention")
        # Looking a label up takes longer than all else about counting.
        self._refused: dict[str, Counter] = {}
        self._closed: dict[str, Counter] = {}
        self.requests_refused = counter(
            "gateway_requests_refused", "Requests without the right or over a limit, by reason", ["reason"]
        )
        self.lag = Histogram(
            "gateway_delivery_lag_seconds",
            "From reading a batch from Redis to handing it to a connection",
            buckets=_LAG,
            registry=registry,
        )

    def read(self, entries: Sequence[Entry]) -> None:
        """A reader got a batch at the tail."""
        self.events_read.inc(len(entries))
        for entry in entries:
            if isinstance(entry, Skipped):
                self.events_skipped.labels(entry.reason).inc()

    def lost(self, stream: str) -> None:
        """A reader lost Redis."""
        self.redis_up.set(0)

    def regained(self, stream: str) -> None:
        """A reader reached Redis, at first or again."""
        self.redis_up.set(1)
        self.redis_connects.inc()

    def opened(self, representation: str) -> None:
        """A subscription began."""
        self._open[representation].inc()

    def closed(self, representation: str, reason: str) -> None:
        """A subscription ended."""
        self._open[representation].dec()
        counter = self._closed.get(reason)
        if counter is None:
            counter = self._closed[reason] = self.connections_closed.labels(reason)
        counter.inc()

    def wrote(self, events: int, size: int, *, replay: bool) -> None:
        """Events were handed to a connection."""
        self.frames_written.inc(events)
        self.bytes_written.inc(size)
        if replay:
            self.events_replayed.inc(events)

    def refused(self, reason: str) -> None:
        """A request was turned away: no credential, no right, or a limit."""
        counter = self._refused.get(reason)
        if counter is None:
            counter = self._refused[reason] = self.requests_refused.labels(reason)
        counter.inc()

    def lagged(self, seconds: float) -> None:
        """So long after the batch was read, it was handed to a connection."""
        self.lag.observe(seconds)

    def fell_back(self) -> None:
        """A subscriber left the live lane."""
        self.fallbacks.inc()

    def gap(self, reason: str) -> None:
        """A subscriber was told of a gap."""
        self.gaps.labels(reason).inc()

    def replay(self, source: str) -> None:
        """A subscription began before the tail."""
        self.replays.labels(source).inc()

    def render(self) -> bytes:
        """The text format of Prometheus, version 0.0.4; of all workers together where there are several."""
        if METRICS_FOLDER not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget_process(pid: int) -> None:
    """A worker has died: what it measured of the present no longer counts."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": time.time(), "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(level: str, as_json: bool) -> None:
    """Log to stderr: one line a fact, ``dotted.name key=value``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if as_json else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn says six things about every start and stop, ahead of what the command says itself.
    logging.getLogger("uvicorn").setLevel("INFO" if level == "debug" else "WARNING")
