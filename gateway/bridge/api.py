"""What people do with endpoints, without HTTP: create, change, rotate, try, replay, resend."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson
from pydantic import ValidationError

from gateway.access.limits import OverLimit
from gateway.access.principal import Principal
from gateway.bridge.attempt import Attempt, Phases
from gateway.bridge.blame import only, unprocessable
from gateway.bridge.bridge import Bridge
from gateway.bridge.delivery import Delivery
from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import MASK, Endpoint, EndpointConfig, Secret
from gateway.bridge.registry import Conflict
from gateway.bridge.render import Bodies, Stationery, body_of
from gateway.bridge.replays import Replays
from gateway.bridge.secretbox import SecretUnreadable
from gateway.bridge.signature import PRIVATE_PREFIX, Signer, make_secret
from gateway.errors import FieldError, Problem
from gateway.events.event import Event, format_time
from gateway.events.position import format_id, make_id

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
        await self._bridge.registry.create(endpoint, info.last_id)
        return self._shown_once(endpoint)

    async def every(self, caller: Principal) -> list[Endpoint]:
        """The endpoints that the caller may see, oldest first."""
        found = (await self._bridge.registry.all()).values()
        return sorted((it for it in found if self._visible(caller, it)), key=lambda it: (it.created, it.id))

    async def get(self, caller: Principal, endpoint_id: str) -> Endpoint:
        """One endpoint; 404 also for one that the caller may not see."""
        found = await self._bridge.registry.get(endpoint_id)
        if found is None and self._bridge.worker is not None:
            found = self._bridge.worker.system_endpoints().get(endpoint_id)
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
        before = await self.get(caller, endpoint_id)
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

        def edit(current: Endpoint) -> Endpoint:
            reason = None if config.active else current.disabled_reason
            edited = replace(current, config=config, secrets=found, updated=now, disabled_reason=reason)
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
        await self.get(caller, endpoint_id)
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
        (fresh,) = self._secrets(endpoint.config, body.get("secret"))
        now = self._bridge.clock.now()
        rotated = await self._store(endpoint_id, lambda current: current.rotated(fresh.text, now, float(overlap)))
        ends = [secret.expires for secret in rotated.secrets if secret.expires is not None]
        until = format_time(int(max(ends) * 1000)) if ends and rotated.dialect.scheme.overlap else None  # type: ignore[union-attr]
        return {**self._shown_once(rotated), "previous_valid_until": until}

    # Deliveries.

    async def logs(
        self, caller: Principal, endpoint: Endpoint, limit: int, before: str | None, status: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Lines of the log, newest first; of those fetched, the ones that the caller may see."""
        found, following = await self._bridge.ledger.logs(endpoint.id, limit, before, status)
        return [delivery.summary() for delivery in found if _sees(caller, delivery)], following

    async def log(self, caller: Principal, endpoint: Endpoint, log_id: str) -> dict[str, Any]:
        """One delivery with every attempt."""
        return _detailed(await self._delivery(caller, endpoint, log_id))

    async def _delivery(self, caller: Principal, endpoint: Endpoint, log_id: str) -> Delivery:
        delivery = await self._bridge.ledger.log(endpoint.id, log_id)
        if delivery is None or not _sees(caller, delivery):
            raise Problem(404, f"there is no delivery {log_id[:80]} in the log of {endpoint.id}")
        return delivery

    async def resend(self, caller: Principal, endpoint: Endpoint, log_id: str) -> dict[str, Any]:
        """Deliver once more, with a full new schedule."""
        delivery = await self._delivery(caller, endpoint, log_id)
        if delivery.trigger == "test":
            raise Problem(409, "a test is not delivered again; make another")
        delivery.trigger, delivery.status, delivery.step = "resend", "pending", 0
        delivery.due = int(self._bridge.clock.now() * 1000)
        if not await self._bridge.ledger.enter(endpoint.id, delivery):
            raise Problem(409, f"{log_id} is already waiting for its next attempt")
        await self._bridge.registry.announce(endpoint.id)
        return delivery.summary()

    async def test(self, endpoint: Endpoint) -> dict[str, Any]:
        """Send a ``gateway.test`` event now; the delivery with its one attempt."""
        now = self._bridge.clock.now()
        config = endpoint.config
        # Above any number that Redis gives within a millisecond: its webhook-id is no event's.
        event_id = make_id(int(now * 1000), (1 << 63) + secrets.randbits(40))
        data = b'{"message":"This is a test of your webhook.","webhook":"%b"}' % endpoint.id.encode()
        event = Event(event_id, config.stream, "gateway.test", "gateway", config.tenant, None, data)
        name = "log_" + format_id(event_id)
        delivery = Delivery(name, event, "test", int(now * 1000), envelope=config.dialect)
        try:
            stationery = Stationery(endpoint, Bodies(), self._bridge.options.product)
            request = stationery.request(event, 1, config.url, now)
        except ValueError as error:
            attempt = Attempt(config.url, now, {}, Phases(0.0), error="unrenderable", detail=str(error))
        else:
            attempt = await self._bridge.sender.post(config.url, request.headers, request.body, endpoint.timeout)
        delivery.note(attempt.record(1))
        delivery.code, delivery.error = attempt.status, attempt.error
        delivery.status = "delivered" if attempt.status in endpoint.dialect.success else "failed"
        await self._bridge.ledger.enter(endpoint.id, delivery)
        return {**_detailed(delivery), **delivery.history[0], "attempts": 1, "status": delivery.status}

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


def _sees(caller: Principal, delivery: Delivery) -> bool:
    # The endpoint may have got more when its maker was allowed more. A test is nobody's event.
    event = delivery.event
    return delivery.trigger == "test" or caller.sees(event.stream, event.tenant, event.channel, event.type)


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


def _detailed(delivery: Delivery) -> dict[str, Any]:
    history = []
    for record in delivery.history:
        dialect = DIALECTS[delivery.envelope]
        try:
            body = body_of(dialect, delivery.event, record["attempt"], record["url"]).decode()
        except ValueError:
            body = None
        history.append({**record, "request": {**record["request"], "body": body}})
    return {**delivery.summary(), "stream": delivery.event.stream, "dialect": delivery.envelope, "history": history}
