"""Metrics (Prometheus) and the form of log lines.

Labels come from closed sets only: never an id, a channel or a URL that a client chose.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

_LAG = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Telemetry:
    """The metrics of one process, in a registry of their own."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.connections = gauge("gateway_connections", "Open subscriptions", ["representation"])
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
        self.replays = counter("gateway_replays", "Subscriptions that began before the tail, by source", ["source"])
        self.events_replayed = counter("gateway_events_replayed", "Events written during replays")
        self.gaps = counter("gateway_gaps", "Gaps told to subscribers", ["reason"])
        self.redis_reconnects = counter("gateway_redis_reconnects", "Times a reader lost Redis and came back")
        self.redis_up = gauge("gateway_redis_up", "1 while the readers reach Redis, else 0")
        self.events_trimmed = counter("gateway_events_trimmed", "Events dropped by retention")
        self.lag = Histogram(
            "gateway_delivery_lag_seconds",
            "From reading a batch from Redis to handing it to a connection",
            buckets=_LAG,
            registry=registry,
        )

    def render(self) -> bytes:
        """The text format of Prometheus, version 0.0.4."""
        return generate_latest(self.registry)


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
