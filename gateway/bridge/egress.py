"""Which addresses a webhook may go to: checked when a socket is made, because names and spellings lie.

``getaddrinfo`` reads ``2130706433``, ``0x7f000001``, ``127.1`` and ``①②⑦.0.0.1`` as 127.0.0.1; a name can answer a
public address when the endpoint is created and a private one when it is dialled; a resolver hook never sees literals.
So the guard makes the sockets: it sees the address that will be dialled, and nothing else.

The list is the union of what others refuse (the IANA special-purpose registries, Svix, Smokescreen), plus ranges that
`ipaddress` calls global although they lead inside: NAT64, 6to4, Teredo, IPv4-compatible, the metadata address of Azure.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

Address = IPv4Address | IPv6Address

_DENIED: Final = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/3",
        # All of IPv6 outside 2000::/3 is unassigned, local, multicast or a translation of IPv4.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
    )
)


class EgressBlocked(OSError):
    """The address may not be dialled."""

    def __init__(self) -> None:
        super().__init__("the address is private, local or special")


class EgressGuard:
    """Decides on addresses, and makes the sockets of the HTTP client.

    `allow` are networks (CIDR) that are open whatever the list says. Raises `ValueError` for one that is no network.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allow = tuple(ip_network(network, strict=False) for network in allow)

    def permits(self, address: Address) -> bool:
        """Whether `address` may be dialled."""
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                address = IPv6Address(int(address))
            if address.ipv4_mapped is not None:
                return self.permits(address.ipv4_mapped)
        if any(address in network for network in self._allow):
            return True
        if not address.is_global or address.is_multicast or any(address in network for network in _DENIED):
            return False
        return not _is_ours(address)

    def open_socket(self, family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
        """A socket to dial `sockaddr` with. Raises `EgressBlocked` before anything is dialled."""
        if family not in (socket.AF_INET, socket.AF_INET6) or not self.permits(ip_address(sockaddr[0])):
            raise EgressBlocked
        plain = socket.socket(family, socket.SOCK_STREAM)
        plain.setblocking(False)
        return plain


def _is_ours(address: Address) -> bool:
    """Whether an interface of this machine has the address: then the kernel would send from it. Sends nothing."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
            return bool(ip_address(probe.getsockname()[0]) == address)
        except OSError:
            return False
