"""Every way in which a subscription can end: one closed table, the same words in metrics and in ``gateway.closing``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """`told`: the client gets ``gateway.closing`` with this reason. `reconnect`: whether it should come back."""

    reason: str
    told: bool
    reconnect: bool


DISCONNECTED = Ending("disconnected", told=False, reconnect=True)
"""The client went away."""
DRAIN = Ending("drain", told=True, reconnect=True)
"""This process shuts down."""
EXPIRED = Ending("expired", told=True, reconnect=False)
"""The token expired."""
REVOKED = Ending("revoked", told=True, reconnect=False)
"""The key was revoked, or its rights no longer cover the subscription."""
NARROWED = Ending("revoked", told=True, reconnect=True)
"""The key's rights changed, and cover another part of what was asked for: coming back is right, and loses nothing."""
MAX_AGE = Ending("max_age", told=True, reconnect=True)
"""The connection reached the age limit."""
STREAM_LOST = Ending("stream_lost", told=True, reconnect=True)
"""The stream can no longer be read here."""
SLOW = Ending("slow", told=False, reconnect=True)
"""The client took no byte for the write timeout; the connection was aborted."""
FAILED = Ending("failed", told=False, reconnect=True)
"""An error in the gateway: always a defect."""

ENDINGS = (DISCONNECTED, DRAIN, EXPIRED, REVOKED, MAX_AGE, STREAM_LOST, SLOW, FAILED)
"""One for each reason."""
