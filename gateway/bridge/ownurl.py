"""The way out for events that bring a URL of their own while no endpoint lets them (CONTRACT section 5)."""

from __future__ import annotations

from gateway.bridge.endpoint import Endpoint, EndpointConfig, Secret


def system_endpoint(stream: str, secret: str) -> Endpoint:
    """The endpoint of events that bring a URL of their own: `standard`, for every tenant."""
    config = EndpointConfig(url="https://nowhere.invalid/", stream=stream, overridable=True)
    name = "whk_url_" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in stream)
    return Endpoint(name, config, (Secret(secret),), 0, 0, system=True)
