"""From names to addresses."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

_KEPT: Final = 10.0
"""Seconds that an answer is used for."""
_NAMES: Final = 4096
"""Answers in memory; events can bring a new name each."""


class Address(NamedTuple):
    """One answer of ``getaddrinfo``."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


class NameUnknown(OSError):
    """The name has no address."""


class Resolver:
    """``getaddrinfo`` in threads of its own, so that names that hang cannot hold up those that answer.

    The event loop's own pool is small and shared (four threads under uvloop).
    """

    def __init__(self, threads: int = 32) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="webhook-dns")
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}

    def known(self, host: str, port: int) -> list[Address] | None:
        """The addresses of an IP literal, or of a name that was asked for lately."""
        known = self._known.get((host, port))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            literal = ip_address(host)
        except ValueError:
            return None
        if literal.version == 4:
            return [Address(socket.AF_INET, (host, port))]
        return None if "%" in host else [Address(socket.AF_INET6, (host, port, 0, 0))]

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Every A and AAAA answer, in the order of preference. Raises `NameUnknown`."""
        key = (host, port)
        asked = self._asked.get(key)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._pool, _look_up, host, port)
            self._asked[key] = asked
            asked.add_done_callback(lambda future: self._answered(key, future))
        # Shielded: one that is cancelled must not take the others' answer along.
        return await asyncio.shield(asked)

    def _answered(self, key: tuple[str, int], future: asyncio.Future[list[Address]]) -> None:
        del self._asked[key]
        if not future.cancelled() and future.exception() is None:
            if len(self._known) >= _NAMES:
                self._known.clear()
            self._known[key] = (time.monotonic() + _KEPT, future.result())

    def close(self) -> None:
        """Give the threads back; those that hang end with their lookups."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    except (OSError, UnicodeError) as error:
        raise NameUnknown(str(error)) from error
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]
