"""The way out for events that bring a URL of their own while no endpoint lets them (CONTRACT section 5).

It is an endpoint like the others, one for each stream, that the gateway makes by itself: with a position, a log, and a
secret, which is `GATEWAY_WEBHOOK_DEFAULT_SECRET` or, without it, one of its own.  So such an event is delivered in any
case, and nobody has to have thought of it before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import Endpoint, EndpointConfig, Secret
from gateway.bridge.registry import Conflict, Registry
from gateway.bridge.signature import make_secret
from gateway.stream.log import Log

OWN_PREFIX: Final = "gateway:"
"""Streams of the gateway itself: what is in them was not published, so it brings no URL."""


def system_id(stream: str) -> str:
    """The id of the endpoint for events of `stream` that bring a URL: ``whk_url_events``."""
    return "whk_url_" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in stream)


def system_endpoint(stream: str, secret: str, now: int) -> Endpoint:
    """The endpoint of events that bring a URL of their own: `standard`, for every tenant. `now` is Unix ms."""
    config = EndpointConfig(url="https://nowhere.invalid/", stream=stream, overridable=True)
    return Endpoint(system_id(stream), config, (Secret(secret),), now, now, system=True)


class OwnUrls:
    """Makes the ways out. `default_secret` signs in place of their own secrets; `noise` is random bytes.

    What asks Redis may raise `gateway.backend.connection.UNAVAILABLE`.
    """

    def __init__(
        self,
        log: Log,
        registry: Registry,
        default_secret: str | None,
        now: Callable[[], float],
        noise: Callable[[int], bytes],
    ) -> None:
        self.default_secret = default_secret
        self._log = log
        self._registry = registry
        self._now = now
        self._noise = noise

    def signing(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the secret that it signs with."""
        if endpoint.system and self.default_secret is not None:
            return replace(endpoint, secrets=(Secret(self.default_secret),))
        return endpoint

    async def open(self, streams: Iterable[str]) -> list[Endpoint]:
        """Make what is missing for `streams`, at their tails: what is added after this call is delivered."""
        made = []
        for stream in streams:
            if stream.startswith(OWN_PREFIX) or await self._registry.holds(system_id(stream)):
                continue
            scheme = DIALECTS["standard"].scheme
            assert scheme is not None
            now = int(self._now() * 1000)
            endpoint = system_endpoint(stream, make_secret(scheme, self._noise(32)), now)
            info = await self._log.store.info(stream)
            with suppress(Conflict):  # another process was faster
                await self._registry.create(endpoint, info.last_id)
                made.append(endpoint)
        return made
