"""The endpoints in Redis: one hash of records, and a short stream that tells every bridge what changed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway.backend.connection import Redis
from gateway.bridge.endpoint import Endpoint, EndpointConfig, Secret
from gateway.bridge.ledger import endpoint_keys
from gateway.bridge.scripts import SWAP
from gateway.bridge.secretbox import SecretBox, SecretUnreadable
from gateway.events.position import EventId, format_id, parse_id

log = logging.getLogger("gateway.bridge")

INDEX: Final = "gateway:webhooks"
CHANGES: Final = "gateway:webhooks:changes"
_CHANGES_KEPT: Final = 1000


class Conflict(Exception):
    """The endpoint was changed by somebody else at the same time, or is gone."""


class Registry:
    """Stored endpoints. Every method may raise `gateway.backend.connection.UNAVAILABLE`."""

    def __init__(self, client: Redis, box: SecretBox) -> None:
        self._client: Any = client
        self._box = box
        self._swap = client.register_script(SWAP)

    async def forgive(self, endpoint_id: str) -> None:
        """Forget since when it has been failing: somebody says that it is well again."""
        await self._client.hset(endpoint_keys(endpoint_id)[0], "failing_since", "")

    async def all(self) -> dict[str, Endpoint]:
        """Every endpoint by id. One whose secret cannot be read is there, without secrets."""
        raw: dict[bytes, bytes] = await self._client.hgetall(INDEX)
        return {id_.decode(): self._load(id_.decode(), record) for id_, record in raw.items()}

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """One endpoint."""
        raw = await self._client.hget(INDEX, endpoint_id)
        return None if raw is None else self._load(endpoint_id, raw)

    async def holds(self, endpoint_id: str) -> bool:
        """Whether it is stored."""
        return bool(await self._client.hexists(INDEX, endpoint_id))

    async def create(self, endpoint: Endpoint, position: EventId) -> None:
        """Store a new endpoint that begins after `position` of its stream. Raises `Conflict` when it is there."""
        state = endpoint_keys(endpoint.id)[0]
        pipe = self._client.pipeline(transaction=True)
        # Only if there is none: of two processes that make the same one, the second must not move it ahead.
        pipe.hsetnx(state, "position", format_id(position))
        pipe.hsetnx(state, "epoch", 0)
        await pipe.execute()
        await self._store(endpoint.id, b"", self._dump(endpoint))

    async def change(self, endpoint_id: str, edit: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """Store what `edit` makes of the endpoint.

        Raises `Conflict` when it is gone or keeps changing, `SecretUnreadable` rather than lose a secret.
        """
        for _ in range(5):
            raw = await self._client.hget(INDEX, endpoint_id)
            if raw is None:
                break
            edited = edit(self._read(endpoint_id, raw))
            try:
                await self._store(endpoint_id, raw, self._dump(edited))
            except Conflict:
                continue
            return edited
        raise Conflict(endpoint_id)

    async def disable(self, endpoint_id: str, reason: str, now: int) -> None:
        """Switch the endpoint off at Unix time `now` (ms), if it is still there."""

        def edit(endpoint: Endpoint) -> Endpoint:
            config = endpoint.config.model_copy(update={"active": False})
            return replace(endpoint, config=config, disabled_reason=reason, updated=now)

        with suppress(Conflict):
            await self.change(endpoint_id, edit)

    async def delete(self, endpoint_id: str) -> bool:
        """Remove the endpoint and all that is kept of it; False when there was none."""
        removed = bool(await self._client.hdel(INDEX, endpoint_id))
        # First the state: without it no owner's commit goes through any more.
        await self._client.delete(*endpoint_keys(endpoint_id))
        await self.announce(endpoint_id)
        return removed

    async def announce(self, endpoint_id: str) -> None:
        """Tell every bridge to look at the endpoint again; at who holds what, when the id is empty."""
        await self._client.xadd(CHANGES, {"id": endpoint_id}, maxlen=_CHANGES_KEPT, approximate=True)

    async def changes(self, after: str, block_ms: int) -> tuple[str, list[str]]:
        """Wait for changes after the position `after` (``$`` at first); the new position, and the ids."""
        reply = await self._client.execute_command("XREAD", "COUNT", 1000, "BLOCK", block_ms, "STREAMS", CHANGES, after)
        if not reply:
            return after, []
        entries = reply[0][1]
        return entries[-1][0].decode(), [fields[1].decode() for _, fields in entries]

    async def changes_position(self) -> str:
        """The position of the newest change."""
        newest = await self._client.execute_command("XREVRANGE", CHANGES, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else "0-0"

    async def _store(self, endpoint_id: str, before: bytes, after: bytes) -> None:
        if not await self._swap(keys=[INDEX], args=[endpoint_id, before, after]):
            raise Conflict(endpoint_id)
        await self.announce(endpoint_id)

    def _dump(self, endpoint: Endpoint) -> bytes:
        secrets = [(self._box.seal(secret.text, endpoint.id), secret.expires) for secret in endpoint.secrets]
        return orjson.dumps(
            {
                "config": endpoint.config.model_dump(mode="json"),
                "secrets": secrets,
                "created": endpoint.created,
                "updated": endpoint.updated,
                "disabled_reason": endpoint.disabled_reason,
                "grant": endpoint.grant,
                "overridable_from": format_id(endpoint.overridable_from),
                "system": endpoint.system,
            }
        )

    def _load(self, endpoint_id: str, raw: bytes) -> Endpoint:
        """As `_read`; one whose secret cannot be read is there, but waits: without it nothing can be signed."""
        try:
            return self._read(endpoint_id, raw)
        except SecretUnreadable as error:
            log.error("endpoint.unreadable id=%s error=%s", endpoint_id, error)
            record = orjson.loads(raw)
            unsigned = self._read(endpoint_id, orjson.dumps({**record, "secrets": []}))
            config = unsigned.config.model_copy(update={"active": False})
            return replace(unsigned, config=config, disabled_reason="secret_unreadable")

    def _read(self, endpoint_id: str, raw: bytes) -> Endpoint:
        record: dict[str, Any] = orjson.loads(raw)
        config = EndpointConfig.model_validate(record["config"])
        secrets = tuple(Secret(self._box.open(text, endpoint_id), until) for text, until in record["secrets"])
        return Endpoint(
            endpoint_id,
            config,
            secrets,
            record["created"],
            record["updated"],
            record["disabled_reason"],
            record["grant"],
            overridable_from=parse_id(record.get("overridable_from", "0-0")),
            system=record.get("system", False),
        )
