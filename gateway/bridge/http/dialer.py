"""Opens connections: name, guard, TCP, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, zip_longest
from typing import Final

from gateway.bridge.attempt import Phases
from gateway.bridge.egress import EgressBlocked, EgressGuard
from gateway.bridge.http.connection import Connection
from gateway.bridge.http.resolver import Address, Resolver
from gateway.bridge.http.target import Origin

_STAGGER: Final = 0.25
"""Seconds after which the next address is tried beside the one that has not answered (RFC 8305)."""
_HANDSHAKE: Final = 150.0
"""Longer than any deadline of an attempt, which is what ends a handshake that stalls."""
_GOODBYE: Final = 1.0
"""Seconds for the other side to agree to the end of TLS."""


class Unreachable(OSError):
    """TCP did not connect."""


class HandshakeFailed(OSError):
    """TLS did not come about: no TLS, no agreement, or a certificate that does not do."""


class Dialer:
    """`tls` replaces the trust in public authorities."""

    def __init__(self, guard: EgressGuard, resolver: Resolver, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._resolver = resolver
        self._tls = _public() if tls is None else tls

    async def dial(self, origin: Origin, phases: Phases, release: Callable[[Connection], bool]) -> Connection:
        """A new connection. Raises `OSError`: `NameUnknown`, `EgressBlocked`, `Unreachable` or `HandshakeFailed`."""
        addresses = self._resolver.known(origin.host, origin.port)
        if addresses is None:
            addresses = await self._resolver.resolve(origin.host, origin.port)
            phases.dns = time.monotonic() - phases.begun
        plain = await self._reach(_interleaved(addresses))
        phases.connect = time.monotonic() - phases.begun
        loop = asyncio.get_running_loop()
        if not origin.secure:
            _, connection = await loop.create_connection(lambda: Connection(origin, release), sock=plain)
            return connection
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(origin, release),
                sock=plain,
                ssl=self._tls,
                server_hostname=origin.host.rstrip("."),
                ssl_handshake_timeout=_HANDSHAKE,
                ssl_shutdown_timeout=_GOODBYE,
            )
        except (OSError, ValueError) as error:  # ValueError: a name that TLS cannot ask for
            raise HandshakeFailed(str(error)) from error
        phases.tls = time.monotonic() - phases.begun
        return connection

    async def _reach(self, addresses: Sequence[Address]) -> socket.socket:
        """The first to answer; the next is tried when one fails, or is slow."""
        failures: list[OSError] = []
        waiting, trying = list(reversed(addresses)), set[asyncio.Task[socket.socket]]()
        try:
            while waiting or trying:
                if waiting:
                    trying.add(asyncio.create_task(self._connect(waiting.pop())))
                patience = _STAGGER if waiting else None
                done, trying = await asyncio.wait(trying, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                while done:
                    task = done.pop()
                    error = task.exception()
                    if error is None:
                        trying |= done
                        return task.result()
                    if not isinstance(error, OSError):
                        raise error
                    failures.append(error)
        finally:
            for task in trying:
                _give_up(task)
        # What was blocked tells less than what failed where it was allowed to go.
        raise next((error for error in failures if not isinstance(error, EgressBlocked)), failures[0])

    async def _connect(self, address: Address) -> socket.socket:
        plain = self._guard.open_socket(address.family, address.sockaddr)
        try:
            await asyncio.get_running_loop().sock_connect(plain, address.sockaddr)
        except OSError as error:
            plain.close()
            raise Unreachable(str(error)) from error
        except BaseException:
            plain.close()
            raise
        return plain


def _give_up(task: asyncio.Task[socket.socket]) -> None:
    def close(ended: asyncio.Task[socket.socket]) -> None:
        if not ended.cancelled() and ended.exception() is None:
            ended.result().close()

    task.cancel()
    task.add_done_callback(close)


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """Both families in turn, the preferred one first."""
    first = [it for it in addresses if it.family == addresses[0].family]
    others = [it for it in addresses if it.family != addresses[0].family]
    return [it for it in chain.from_iterable(zip_longest(first, others)) if it is not None]


@cache
def _public() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
