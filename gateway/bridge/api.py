"""What people do with endpoints, without HTTP: create, look, change, rotate, delete."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson
from pydantic import ValidationError

from gateway.access.limits import OverLimit
from gateway.access.principal import Principal
from gateway.bridge.blame import only, unprocessable
from gateway.bridge.bridge import Bridge
from gateway.bridge.deliveries import Deliveries, made_by_people
from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import MASK, Endpoint, EndpointConfig, Secret
from gateway.bridge.registry import Conflict
from gateway.bridge.replays import Replays
from gateway.bridge.secretbox import SecretUnreadable
from gateway.bridge.signature import PRIVATE_PREFIX, Signer, make_secret
from gateway.errors import FieldError, Problem
from gateway.events.event import format_time

_MAX_OVERLAP: Final = 7 * 86400.0
_OVERLAP: Final = 86400.0


def _config(fields: Mapping[str, Any]) -> EndpointConfig:
    try:
        # Strict, so that "active": "no" or "max_in_flight": "16" is an error; lists become tuples only from JSON.
        return EndpointConfig.model_validate_json(orjson.dumps(dict(fields)), strict=True)
    except ValidationError as error:
        errors = [
            FieldError(".".join(str(part) for part in it["loc"]) or "body", it["msg"].removeprefix("Value error, "))
            for it in error.errors()
        ]
        detail = f"{errors[0].field}: {errors[0].message}"
        raise Problem(422, detail, errors=errors) from None


class Api:
    """Every method takes the caller whose rights count. Raises `Problem`, `Refused`, and what Redis raises."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.deliveries = Deliveries(bridge)
        self.replays = Replays(bridge)

    # Endpoints.

    async def create(self, caller: Principal, body: dict[str, Any]) -> dict[str, Any]:
        """A new endpoint at the tail of its stream, with its secret, which is shown here only."""
        fields = dict(body)
        given = fields.pop("secret", None)
        fields.setdefault("stream", self._bridge.log.default_stream)
        config = _config(fields)
        config = config.model_copy(update={"tenant": caller.stamp(config.tenant)})
        now = self._bridge.clock.now()
        endpoint = Endpoint(
            "whk_" + secrets.token_hex(12),
            config,
            self._secrets(config, given),
            int(now * 1000),
            int(now * 1000),
            grant=caller.grant(),
        )
        self._check(caller, endpoint)
        await self._check_count(caller, config.tenant)
        info = await self._bridge.log.store.info(config.stream)
        endpoint = replace(endpoint, overridable_from=info.last_id)
        await self._bridge.registry.create(endpoint, info.last_id)
        return self._shown_once(endpoint)

    async def every(self, caller: Principal) -> list[Endpoint]:
        """The endpoints that people have made and the caller may see, oldest first."""
        found = (await self._bridge.registry.all()).values()
        return sorted(
            (it for it in found if not it.system and self._visible(caller, it)), key=lambda it: (it.created, it.id)
        )

    async def get(self, caller: Principal, endpoint_id: str) -> Endpoint:
        """One endpoint; 404 also for one that the caller may not see."""
        found = await self._bridge.registry.get(endpoint_id)
        if found is None or not self._visible(caller, found):
            raise Problem(404, f"there is no webhook {endpoint_id[:80]}")
        return found

    async def describe(self, endpoint: Endpoint) -> dict[str, Any]:
        """With where it stands."""
        facts = await self._bridge.ledger.facts(endpoint.id)
        _, retries = await self._bridge.ledger.retries(endpoint.id, 1)
        since = facts.get("failing_since")
        return {
            **endpoint.view(),
            "position": facts.get("position"),
            "retries": retries,
            "failing_since": format_time(int(float(since) * 1000)) if since else None,
        }

    async def change(self, caller: Principal, endpoint_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Merge `body` into the endpoint. A dialect that needs another kind of key brings a new secret."""
        before = made_by_people(await self.get(caller, endpoint_id))
        if body.get("stream", before.config.stream) != before.config.stream:
            raise unprocessable("stream", "cannot be changed: a position in one stream says nothing about another")
        fields = {**before.config.model_dump(mode="json"), **body}
        if isinstance(fields["headers"], dict):
            kept = before.config.headers
            fields["headers"] = {k: kept.get(k, v) if v == MASK else v for k, v in fields["headers"].items()}
        config = _config(fields)
        config = config.model_copy(update={"tenant": caller.stamp(config.tenant)})
        found = before.secrets if _fits(config, before.secrets) else self._secrets(config, None)
        now = int(self._bridge.clock.now() * 1000)
        since = before.overridable_from
        if config.overridable and not before.config.overridable:
            since = (await self._bridge.log.store.info(config.stream)).last_id

        def edit(current: Endpoint) -> Endpoint:
            reason = None if config.active else current.disabled_reason
            edited = replace(
                current, config=config, secrets=found, updated=now, disabled_reason=reason, overridable_from=since
            )
            return self._owned(caller, edited)

        self._check(caller, edit(before))
        if config.active and not before.config.active:
            await self._bridge.registry.forgive(endpoint_id)
        changed = await self._store(endpoint_id, edit)
        return changed.view() if found is before.secrets else self._shown_once(changed)

    async def switch(self, caller: Principal, endpoint_id: str, *, active: bool) -> dict[str, Any]:
        """On or off. On again goes on from the position where it stopped."""
        await self.get(caller, endpoint_id)
        now = int(self._bridge.clock.now() * 1000)
        if active:
            await self._bridge.registry.forgive(endpoint_id)

        def edit(current: Endpoint) -> Endpoint:
            config = current.config.model_copy(update={"active": active})
            edited = replace(current, config=config, updated=now, disabled_reason=None if active else "manual")
            return self._owned(caller, edited)

        return (await self._store(endpoint_id, edit)).view()

    async def delete(self, caller: Principal, endpoint_id: str) -> None:
        """Gone with its log and its retries."""
        made_by_people(await self.get(caller, endpoint_id))
        await self._bridge.registry.delete(endpoint_id)

    async def rotate(self, caller: Principal, endpoint_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """A new secret, shown here only; the old one signs too for ``overlap_seconds`` where the dialect has room."""
        endpoint = await self.get(caller, endpoint_id)
        only(body, "overlap_seconds", "secret")
        overlap = body.get("overlap_seconds", _OVERLAP)
        if not isinstance(overlap, (int, float)) or isinstance(overlap, bool) or not 0 <= overlap <= _MAX_OVERLAP:
            raise unprocessable("overlap_seconds", f"must be a number from 0 to {_MAX_OVERLAP:.0f}")
        if endpoint.dialect.scheme is None:
            raise Problem(409, f"the dialect {endpoint.config.dialect} does not sign")
        if endpoint.system and self._bridge.own_urls.default_secret is not None:
            raise Problem(409, "events with a URL of their own are signed with GATEWAY_WEBHOOK_DEFAULT_SECRET")
        (fresh,) = self._secrets(endpoint.config, body.get("secret"))
        now = self._bridge.clock.now()
        rotated = await self._store(endpoint_id, lambda current: current.rotated(fresh.text, now, float(overlap)))
        ends = [secret.expires for secret in rotated.secrets if secret.expires is not None]
        until = format_time(int(max(ends) * 1000)) if ends and rotated.dialect.scheme.overlap else None  # type: ignore[union-attr]
        return {**self._shown_once(rotated), "previous_valid_until": until}

    # Checks.

    def _visible(self, caller: Principal, endpoint: Endpoint) -> bool:
        """Whether the caller may see all that the endpoint can ever get."""
        narrowed = self._bridge.narrow(endpoint) or endpoint
        return caller.covers(narrowed.filter, endpoint.config.stream)

    def _owned(self, caller: Principal, endpoint: Endpoint) -> Endpoint:
        """The endpoint as `caller` may leave it: its maker's as long as that gives nothing that the caller may not see.

        Otherwise, and where the maker's rights have ended, it is the caller's from now on.
        """
        narrowed = self._bridge.narrow(endpoint)
        if narrowed is not None and caller.covers(narrowed.filter, endpoint.config.stream):
            return endpoint
        return replace(endpoint, grant=caller.grant())

    def _check(self, caller: Principal, endpoint: Endpoint) -> None:
        """What the fields alone cannot tell: this gateway's rules, and the caller's rights."""
        config = endpoint.config
        for name, url in (("url", config.url), ("failover_url", config.failover_url)):
            if url is not None and not url.startswith("https://") and not self._bridge.options.allow_http:
                raise unprocessable(name, "must be https")
        for name, stream in (("stream", config.stream), ("reply_stream", config.reply_stream)):
            if stream is not None and stream not in self._bridge.log.served:
                raise unprocessable(name, f"stream {stream} is not served here")
        caller.narrow(endpoint.filter, [config.stream])
        if config.reply_stream is not None:
            caller.check_publish(config.reply_stream, "webhook", "webhook.reply")

    async def _check_count(self, caller: Principal, tenant: str | None) -> None:
        limit = int(caller.limits.get("endpoints", self._bridge.options.max_endpoints_per_tenant))
        if tenant is None or not limit:
            return
        found = (await self._bridge.registry.all()).values()
        if sum(it.config.tenant == tenant for it in found) >= limit:
            raise OverLimit("endpoints", f"tenant {tenant} has {limit} endpoints, and no more are allowed")

    def _secrets(self, config: EndpointConfig, given: Any) -> tuple[Secret, ...]:
        """One secret: the one brought along, or a new one; none for a dialect that does not sign."""
        scheme = DIALECTS[config.dialect].scheme
        if scheme is None:
            if given is not None:
                raise unprocessable("secret", f"the dialect {config.dialect} does not sign")
            return ()
        if given is not None and not isinstance(given, str):
            raise unprocessable("secret", "must be text")
        text = make_secret(scheme, secrets.token_bytes(32)) if given is None else given
        try:
            Signer(scheme, [text])
        except ValueError as error:
            raise unprocessable("secret", str(error)) from None
        return (Secret(text),)

    async def _store(self, endpoint_id: str, edit: Any) -> Endpoint:
        try:
            return await self._bridge.registry.change(endpoint_id, edit)
        except SecretUnreadable as error:
            raise Problem(409, str(error)) from None
        except Conflict:
            raise Problem(409, f"{endpoint_id} was changed or removed at the same time; look again") from None

    def _shown_once(self, endpoint: Endpoint) -> dict[str, Any]:
        shown = endpoint.view()
        if endpoint.secrets and endpoint.public_key is None:
            shown["secret"] = endpoint.secrets[0].text
        return shown


def _fits(config: EndpointConfig, found: tuple[Secret, ...]) -> bool:
    scheme = DIALECTS[config.dialect].scheme
    if scheme is None or not found:
        return scheme is None and not found
    if found[0].text.startswith(PRIVATE_PREFIX) and "ed25519" not in scheme.forms:
        return False  # a private key is no shared secret
    try:
        Signer(scheme, [secret.text for secret in found])
    except ValueError:
        return False
    return True
