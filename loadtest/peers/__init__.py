"""What the gateway is measured against, one module each, found by its name.

A module has a class `Server` that derives from `Peer`.  The gateway itself is one of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.rig.broker import Broker
from loadtest.rig.process import Memory, ProcessTree
from loadtest.rig.publish import Publisher


@dataclass(frozen=True)
class Options:
    """How a server is started. A peer takes of these what it has."""

    heartbeat: float = 15.0
    """Seconds."""
    window: int | None = None
    """Events kept in memory for replay; None = the default of the server."""
    format: str = "raw"
    """Of the gateway: what is in `data:`."""
    workers: int = 1
    embedded: bool = False
    """Of the gateway: start its own Valkey."""
    extra: tuple[str, ...] = ()
    """Further arguments of the command."""
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """Where servers run: their folder, their cores, the Redis they may read."""

    folder: Path
    cores: frozenset[int]
    broker: Broker


class Peer:
    """A server that can be started, published to, subscribed to and measured."""

    name = ""
    about = ""
    can: frozenset[str] = frozenset()
    """Of ``fanout`` (delivers what is published), ``idle`` (holds connections), ``channels`` (a subscriber may ask for
    one of many), ``all`` (or for all of them), ``resume`` (by Last-Event-ID), ``durable`` (also after a restart),
    ``keys`` (lets in who has one)."""
    overhead = 0
    """Bytes of a frame on the wire that are not payload, without chunk framing."""
    accept = "text/event-stream"

    def __init__(self, site: Site, options: Options) -> None:
        self.site = site
        self.options = options
        self.host = "127.0.0.1"
        self.port = 0
        self.token: str | None = None
        """An API key that subscribers send."""
        self.process: ProcessTree | None = None

    @staticmethod
    def missing() -> str | None:
        """Why this peer cannot run on this machine, or None."""
        return None

    async def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    async def publisher(self) -> Publisher:
        raise NotImplementedError

    def path(self, channel: str | None = None, since: str | None = None) -> str:
        """Target of a subscription: to one channel or all, from ``earliest`` or (None) from now on."""
        raise NotImplementedError

    def request(self, channel: str | None = None, since: str | None = None, last_id: str | None = None) -> bytes:
        """The whole HTTP request of a subscription."""
        lines = [
            f"GET {self.path(channel, since)} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Accept: {self.accept}",
        ]
        if self.token is not None:
            lines.append(f"Authorization: Bearer {self.token}")
        if last_id is not None:
            lines.append(f"Last-Event-ID: {last_id}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def size(self, frame: int) -> int:
        """The payload that makes a frame of `frame` bytes."""
        return max(0, frame - self.overhead)

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        assert self.process is not None
        return self.process.cpu()

    def memory(self) -> Memory:
        assert self.process is not None
        return self.process.memory()


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Peer]:
    """The `Server` of ``loadtest/peers/<name>.py``. Raises `LookupError`."""
    if name not in names():
        raise LookupError(f"no such peer: {name!r} (there are: {', '.join(names())})")
    server: type[Peer] = importlib.import_module(f"loadtest.peers.{name}").Server
    return server


def able(chosen: Iterable[str], *needs: str) -> list[str]:
    """Those of `chosen` that can do all of `needs` and run on this machine."""
    return [name for name in chosen if set(needs) <= load(name).can and load(name).missing() is None]
