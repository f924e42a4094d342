"""What counts before a credential does: where a request comes from, and whose page sends it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.access.address import Addresses
from gateway.access.carrier import COOKIE, is_same_origin
from gateway.access.cors import Origins
from gateway.access.head import Head, Headers
from gateway.access.principal import Refused

_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_PRIVATE_NAMES: Final = ("localhost", "internal", "test")
"""Top-level names that public DNS never answers for: RFC 6761, and ICANN's resolution on ``.internal``."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests are looked at.

    `may_be_open`: without any key or token setting everybody may do everything (loopback, or ``--insecure``).
    `check_host`: while open, answer no host name that public DNS could point at this machine.
    """

    may_be_open: bool
    check_host: bool
    origins: Origins
    addresses: Addresses
    count_addresses: bool = False

    def address(self, peer: str | None, headers: Headers) -> str | None:
        """Whose request it is, as an address: see `Addresses.client`."""
        forwarded = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
        return self.addresses.client(peer, forwarded)

    def check_cookie(self, head: Head) -> None:
        """A browser adds the cookie whoever's page asks: only our own pages and those of named origins may.

        Raises `Refused`.
        """
        origin = head.get(b"origin")
        if origin is None:
            if (head.get(b"sec-fetch-site") or "none") in ("none", "same-origin"):
                return
        elif self.origins.trusts(origin) or is_same_origin(origin, head.get(b"host") or ""):
            return
        raise Refused(f"the cookie {COOKIE} does not count for pages of this origin")

    def check_page(self, head: Head) -> None:
        """While open, the one danger is a web page that reaches through its visitor's browser. Raises `Refused`."""
        host = head.get(b"host") or ""
        if self.check_host and not _is_private_name(host):
            # DNS rebinding: a page's own host name, made to point here, is the same origin to the browser.
            raise Refused("without access control only local host names are served; create a key to close the gateway")
        origin = head.get(b"origin")
        if origin is None or head.method in _SAFE_METHODS:
            return
        if not (origin in self.origins or is_same_origin(origin, host)):
            raise Refused("pages of this origin may not do that")


@lru_cache(maxsize=256)
def _is_private_name(host: str) -> bool:
    """An address, a name without dots, or one that public DNS cannot hold. No host at all is no browser."""
    if host.startswith("["):
        return True
    name = host.partition(":")[0].rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.rpartition(".")[2] in _PRIVATE_NAMES
    return True
