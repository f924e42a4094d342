"""A set of public keys at a URL (RFC 7517), kept fresh.

Keys are asked for again when they are old, in the background, and at once when a token names one that is not there:
that is how a rotation is noticed.  Tokens are an attacker's to make up, so asking is single flight, at most once per
cooldown, and few may wait for it.  While the URL does not answer the keys of before count, for an hour.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from gateway.access.verifykey import VerifyKey, jwk_key
from gateway.events.jsontext import NotJSON, loads

log = logging.getLogger("gateway.access")

REFRESH: Final = 300.0
"""Seconds after which the keys are asked for again."""
MAX_STALE: Final = 3600.0
"""Seconds after which keys that could not be confirmed no longer count."""
COOLDOWN: Final = 5.0
"""Seconds between two askings, at least."""
_TIMEOUT = 5.0
_MAX_BYTES = 1 << 20
_MAX_KEYS = 100
_MAX_WAITING = 100
_MAX_RETIRED = 1000


async def fetch(url: str) -> bytes:
    """GET, 1 MiB at most, within 5 s. No redirects, cookies or proxies. Raises `OSError`."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    jar = aiohttp.DummyCookieJar()
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=jar, trust_env=False, auto_decompress=False) as session,
            session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status != 200:
                raise OSError(f"answered {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise OSError(f"answered more than {_MAX_BYTES} bytes")
            return bytes(body)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise OSError(f"{type(error).__name__}") from None


class KeySet:
    """The keys at `url`. `get` fetches it and raises `OSError`; `clock` is monotonic seconds."""

    def __init__(self, url: str, get: Callable[[str], Awaitable[bytes]], clock: Callable[[], float]) -> None:
        self._url = url
        self._get = get
        self._clock = clock
        self._keys: tuple[VerifyKey, ...] = ()
        self._confirmed: float | None = None
        self._asked: float | None = None
        self._asking: asyncio.Task[None] | None = None
        self._waiting = 0
        self._present: set[str] = set()  # of the last answer, whether or not it is too old by now
        self._retired: list[str] = []
        self.generation = 0
        self.listeners: list[Callable[[], None]] = []
        """Called after each change of the keys; they must not block and not raise."""

    def __repr__(self) -> str:
        return f"<KeySet {len(self._keys)} keys generation {self.generation}>"

    def touch(self) -> None:
        """Notice the passing of time: ask again in the background, and drop what is too old."""
        now = self._clock()
        if self._confirmed is not None and now - self._confirmed >= MAX_STALE and self._keys:
            log.error("jwks.stale seconds=%d", now - self._confirmed)
            self._take(())
        if self._confirmed is None or now - self._confirmed >= REFRESH:
            self._ask()

    def known(self, algorithm: str, kid: str | None) -> list[VerifyKey]:
        """The keys for `algorithm` named `kid`, or all of them for None.

        Raises `LookupError` when there is none, and asking might help.
        """
        found = [key for key in self._keys if key.algorithm == algorithm and (kid is None or key.kid == kid)]
        if not found and self._waiting < _MAX_WAITING and (self._under_way or not self._too_early):
            raise LookupError
        return found

    async def ask(self) -> None:
        """Have the keys read again, unless that was a moment ago. Returns when it is over, well or not."""
        task = self._ask()
        if task is None:
            return
        self._waiting += 1
        try:
            # Shielded: a client that goes away must not cancel it for the others.
            await asyncio.shield(task)
        finally:
            self._waiting -= 1

    def honours(self, signer: str) -> bool:
        """Whether what `signer` (`VerifyKey.signer`) has signed still counts: not when the URL has dropped it.

        That the URL does not answer drops none: it ends no open stream.
        """
        return signer not in self._retired

    async def stop(self) -> None:
        """Leave no task behind."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    @property
    def _under_way(self) -> bool:
        return self._asking is not None and not self._asking.done()

    @property
    def _too_early(self) -> bool:
        return self._asked is not None and self._clock() - self._asked < COOLDOWN

    def _ask(self) -> asyncio.Task[None] | None:
        """The asking under way, or a new one; None while it is too early for that."""
        if self._under_way:
            return self._asking
        if self._too_early:
            return None
        self._asked = self._clock()
        self._asking = asyncio.create_task(self._refresh(), name="jwks")
        return self._asking

    async def _refresh(self) -> None:
        try:
            keys = _read(await self._get(self._url))
            self._retire(keys)
            self._take(keys)
            self._confirmed = self._clock()
        except (OSError, ValueError) as error:
            log.warning("jwks.failed error=%s keys_kept=%d", error, len(self._keys))

    def _retire(self, keys: tuple[VerifyKey, ...]) -> None:
        present = {key.signer for key in keys if key.signer is not None}
        kept = [signer for signer in self._retired if signer not in present]
        # Rotations go on for ever.
        self._retired = [*kept, *(self._present - present)][-_MAX_RETIRED:]
        self._present = present

    def _take(self, keys: tuple[VerifyKey, ...]) -> None:
        if _fingerprint(keys) != _fingerprint(self._keys):
            self.generation += 1
            log.info("jwks.changed keys=%d", len(keys))
            self._keys = keys
            for listener in tuple(self.listeners):
                listener()


def _read(body: bytes) -> tuple[VerifyKey, ...]:
    try:
        document = loads(body)
    except NotJSON:
        raise ValueError("not JSON") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("not a key set")
    keys = []
    for member in members[:_MAX_KEYS]:
        try:
            keys.append(jwk_key(member if isinstance(member, dict) else {}))
        except ValueError:
            continue  # sets hold keys for other purposes too
    return tuple(keys)


def _fingerprint(keys: tuple[VerifyKey, ...]) -> list[tuple[str, str | None, object]]:
    return [(key.algorithm, key.kid, key.material) for key in keys]
