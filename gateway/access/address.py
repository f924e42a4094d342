"""Whose connection it is, as an address: the peer's, or what a trusted proxy says. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_IPV6_PREFIX: Final = 64
"""Bits: one customer has that much, so addresses inside it are one place."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and ranges such as ``10.0.0.0/8``. Raises `ValueError`."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


class Addresses:
    """Tells clients apart behind `trusted` proxies, which append the address of their peer to X-Forwarded-For."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)
        self._known = lru_cache(maxsize=4096)(self._find)

    def client(self, peer: str | None, forwarded_for: Sequence[str]) -> str | None:
        """The address to count under; None when it is a proxy's own, a local process, or cannot be known.

        Read from the right: what stands left of the first address that is not trusted was written by the client.
        """
        return self._known(peer, tuple(forwarded_for))

    def _find(self, peer: str | None, forwarded_for: tuple[str, ...]) -> str | None:
        hops = [part.strip() for line in forwarded_for for part in line.split(",")]
        current = peer or ""
        while True:
            address = _parse(current)
            if address is None:
                return None
            if not any(address in network for network in self._trusted):
                return _counted(address)
            if not hops:
                return None
            current = hops.pop()


@lru_cache(maxsize=4096)
def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    # Some proxies append the port: 203.0.113.7:1234, [2001:db8::1]:1234.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _counted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
