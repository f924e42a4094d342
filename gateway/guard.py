"""Access control made from settings: who may come in, and whether it is safe to begin at all."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from gateway.access.address import Addresses, networks
from gateway.access.attempts import Attempts
from gateway.access.cors import Origins
from gateway.access.gate import Gate
from gateway.access.jwks import KeySet, fetch
from gateway.access.jwt import JwtVerifier
from gateway.access.keys import KeyRing, KeyStore
from gateway.access.limits import Limits, Rates
from gateway.access.policy import Policy
from gateway.access.sessions import Sessions
from gateway.access.tickets import Tickets
from gateway.access.verifykey import GOOD_SECRET, VerifyKey, pem_key, secret_key
from gateway.backend.connection import UNAVAILABLE, Redis, connect
from gateway.settings import Settings

log = logging.getLogger("gateway.access")


class AccessError(Exception):
    """The access settings make no sense, or would leave the gateway open to strangers. One sentence for people."""


class Guard:
    """The gate, and what runs beside it."""

    def __init__(self, gate: Gate, key_set: KeySet | None) -> None:
        self.gate = gate
        self._key_set = key_set
        self._chores: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Learn the keys, and keep up with them."""
        await self.gate.ring.refresh()
        if self._key_set is not None:
            self._key_set.listeners.append(self.gate.reconsider)
            # A restart under load brings everybody back at once; without keys few could wait, and others were refused.
            await self._key_set.ask()
        self._chores = [asyncio.create_task(self.gate.ring.run()), asyncio.create_task(self.gate.run())]

    async def stop(self) -> None:
        """Leave no task behind."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self.gate.ring.stop()
        if self._key_set is not None:
            await self._key_set.stop()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(addresses) and all(ipaddress.ip_address(address).is_loopback for address in addresses)


def make_guard(settings: Settings, client: Redis, refused: Callable[[str], None]) -> Guard:
    """The gate of one process. Raises `AccessError`."""
    keys = _fixed_keys(settings)
    key_set = KeySet(settings.jwt_jwks_url, fetch, time.monotonic) if settings.jwt_jwks_url else None
    verifier = None
    if keys or key_set is not None:
        verifier = JwtVerifier(
            keys,
            key_set,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            leeway=settings.jwt_leeway,
            now=time.time,
        )
    loopback = is_loopback(settings.host)
    policy = Policy(
        may_be_open=loopback or settings.insecure,
        check_host=loopback and not settings.insecure,
        origins=Origins(settings.cors_origins),
        addresses=Addresses(networks(settings.trusted_proxies)),
        count_addresses=settings.max_connections_per_ip > 0,
    )
    ring = KeyRing(KeyStore(client, time.time, os.urandom), time.monotonic, time.time)
    sessions = Sessions(_limits(settings), time.time)
    rates = Rates(time.monotonic)
    attempts = Attempts(settings.max_attempts_per_ip, time.monotonic)
    tickets = Tickets(client, os.urandom)
    gate = Gate(policy, ring, verifier, tickets, sessions, rates, attempts, refused, time.time)
    return Guard(gate, key_set)


async def check_access(settings: Settings) -> bool:
    """Whether everybody may come in. Raises `AccessError` when that would be strangers."""
    if settings.redis_url is None:
        raise ValueError("a Redis URL is needed: keys are kept there")
    configured = bool(_fixed_keys(settings)) or settings.jwt_jwks_url is not None
    if settings.jwt_secret is not None and len(settings.jwt_secret.get_secret_value().encode()) < GOOD_SECRET:
        log.warning("jwt.weak_secret bytes_wanted=%d: a short secret can be guessed from any token", GOOD_SECRET)
    if not configured:
        client = connect(settings.redis_url.get_secret_value(), name="gateway-access", timeout=5.0, connections=1)
        try:
            configured = await KeyStore(client, time.time, os.urandom).version() is not None
        except UNAVAILABLE as error:
            raise AccessError(f"cannot learn from Redis whether there are keys: {error}") from None
        finally:
            await client.aclose()
    if configured or settings.insecure or is_loopback(settings.host):
        return not configured
    raise AccessError(
        f"refusing to serve {settings.host} without access control: anyone could subscribe and publish; "
        "create a key (gateway keys create), set GATEWAY_JWT_SECRET, GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWT_JWKS_URL, "
        "listen on 127.0.0.1, or give --insecure"
    )


def _fixed_keys(settings: Settings) -> tuple[VerifyKey, ...]:
    keys: list[VerifyKey] = []
    if settings.jwt_secret is not None:
        try:
            keys.append(secret_key(settings.jwt_secret.get_secret_value()))
        except ValueError as error:
            raise AccessError(f"GATEWAY_JWT_SECRET {error}") from None
    if settings.jwt_public_key is not None:
        try:
            keys.append(pem_key(_pem(settings.jwt_public_key)))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise AccessError(f"GATEWAY_JWT_PUBLIC_KEY {reason}") from None
    return tuple(keys)


def _pem(text: str) -> str:
    return text if "-----BEGIN" in text else Path(text).read_text()


def _limits(settings: Settings) -> Limits:
    return Limits(
        process_connections=settings.max_connections,
        ip_connections=settings.max_connections_per_ip,
        connections=settings.max_connections_per_principal,
        filters=settings.max_filters_per_principal,
        replays=settings.max_replays_per_principal,
        publish_events=settings.publish_events_per_second,
        publish_bytes=settings.publish_bytes_per_second,
        endpoints=settings.max_endpoints_per_tenant,
    )
