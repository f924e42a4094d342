"""A webhook endpoint: what its owner may say (`EndpointConfig`), and what is stored of it (`Endpoint`).

An invalid endpoint cannot exist: a dialect without a fitting key, a header that would break the request or a glob that
can match nothing are refused when it is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.bridge.dialects import DIALECTS, Dialect
from gateway.bridge.schedule import Step, plan
from gateway.bridge.signature import PRIVATE_PREFIX, public_key
from gateway.events import rules
from gateway.events.event import format_time
from gateway.events.filter import Filter, channel_globs, type_globs
from gateway.events.position import ZERO, EventId, is_stream_key

ID: Final = re.compile(r"whk_[A-Za-z0-9_]{1,160}\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}\Z")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]{0,4096}\Z")
_TAKEN: Final = {
    "host", "content-length", "content-type", "transfer-encoding", "connection", "keep-alive", "upgrade", "te",
    "trailer", "expect", "accept-encoding", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature",
}  # fmt: skip
_SECRETIVE = re.compile(r"(?i)authorization|cookie|token|secret|key|password|credential")
MASK: Final = "***"


@lru_cache(maxsize=4096)
def _is_secretive(name: str) -> bool:
    return _SECRETIVE.search(name) is not None


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """`headers` with the values of those that carry credentials replaced."""
    masked = dict(headers)
    for name in headers:
        if _is_secretive(name):
            masked[name] = MASK
    return masked


def _url(text: str) -> str:
    rules.check_url(text)
    return text


def _stream(text: str) -> str:
    if not is_stream_key(text):
        raise ValueError("must be 1 to 128 characters of A-Z a-z 0-9 _ . : { } -")
    return text


def _tenant(text: str) -> str:
    rules.check_name(text)
    return text


def _types(values: tuple[str, ...]) -> tuple[str, ...]:
    type_globs(values)
    return values


def _channels(values: tuple[str, ...]) -> tuple[str, ...]:
    channel_globs(values)
    return values


def _retry(value: str | tuple[float, ...] | None) -> str | tuple[float, ...] | None:
    if isinstance(value, str) and value not in DIALECTS:
        raise ValueError(f"must be a list of seconds or one of {', '.join(DIALECTS)}")
    return value


def _headers(headers: dict[str, str]) -> dict[str, str]:
    if len(headers) > 32:
        raise ValueError("at most 32 headers")
    signing = {d.scheme.signature_header.lower() for d in DIALECTS.values() if d.scheme is not None}
    signing |= {(d.scheme.timestamp_header or "").lower() for d in DIALECTS.values() if d.scheme is not None}
    for name, value in headers.items():
        if _HEADER_NAME.match(name) is None or name.lower() in _TAKEN | signing:
            raise ValueError(f"{name[:64]!r} is no header name that may be set")
        if _HEADER_VALUE.match(value) is None:
            raise ValueError(f"the value of {name} must be printable ASCII, at most 4096 characters")
    return headers


Url = Annotated[str, AfterValidator(_url)]
StreamKey = Annotated[str, AfterValidator(_stream)]
Wait = Annotated[float, Field(ge=0, le=7 * 86400, allow_inf_nan=False)]


class EndpointConfig(BaseModel):
    """What the owner says of an endpoint: the body of create, and after merging that of change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url = Field(description="where to POST; https, unless the gateway allows http")
    events: Annotated[tuple[str, ...], AfterValidator(_types)] = Field(
        ("*",), min_length=1, description="globs over event types, OR among themselves"
    )
    channels: Annotated[tuple[str, ...], AfterValidator(_channels)] = Field(
        (), description="globs over channels, AND with `events`; empty: all"
    )
    stream: StreamKey = Field("events", description="stream key; left out: the default stream")
    tenant: Annotated[str, AfterValidator(_tenant)] | None = Field(None, description="only events of this tenant")
    dialect: str = Field("standard", description=f"one of {', '.join(DIALECTS)}")
    failover_url: Url | None = Field(None, description="tried after the last attempt on `url`")
    retry: Annotated[str | Annotated[tuple[Wait, ...], Field(min_length=1, max_length=64)] | None,
                     AfterValidator(_retry)] = Field(
        None, description="name of a dialect, or seconds before each attempt; null: the dialect's own schedule"
    )  # fmt: skip
    timeout: float | None = Field(
        None, gt=0, le=120, allow_inf_nan=False, description="seconds for a whole attempt; null: the dialect's own"
    )
    max_in_flight: int = Field(16, ge=1, le=1024, description="attempts at the same time")
    rate_limit: float | None = Field(
        None, gt=0, le=100_000, allow_inf_nan=False, description="attempts a second; null: no limit"
    )
    ordered: bool = Field(False, description="one at a time, the next only when the one before is settled")
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = Field(
        default_factory=dict, description="sent with each attempt"
    )
    description: str = Field("", max_length=1000)
    overridable: bool = Field(False, description="an event's own `webhook_url` takes the place of `url`")
    reply_stream: StreamKey | None = Field(None, description="2xx bodies are added here as `webhook.reply`")
    active: bool = True

    @field_validator("dialect")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DIALECTS:
            raise ValueError(f"must be one of {', '.join(DIALECTS)}")
        return name

    @field_validator("reply_stream")
    @classmethod
    def _not_ours(cls, stream: str | None) -> str | None:
        if stream is not None and stream.startswith("gateway:"):
            raise ValueError("streams that begin with gateway: are the gateway's own")
        return stream

    @model_validator(mode="after")
    def _two_urls(self) -> EndpointConfig:
        if self.failover_url is not None and self.failover_url == self.url:
            raise ValueError("failover_url must differ from url")
        return self


@dataclass(frozen=True, slots=True)
class Secret:
    """One signing secret. `expires` is Unix time in seconds, None for the newest, which stays."""

    text: str
    expires: float | None = None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as stored. `created` and `updated` are Unix times in ms; `secrets` are newest first."""

    id: str
    config: EndpointConfig
    secrets: tuple[Secret, ...]
    created: int
    updated: int
    disabled_reason: str | None = None
    grant: Mapping[str, Any] | None = None
    """The rights of whoever made it, as `gateway.access` wrote them down."""
    narrowed: Filter | None = None
    """What those rights leave of its wishes; not stored."""
    overridable_from: EventId = ZERO
    """Where its stream ended when it became `overridable`: what came before is not its business."""
    system: bool = False
    """Made by the gateway for events that bring their own URL; not listed."""

    @property
    def dialect(self) -> Dialect:
        """How it wants its webhooks."""
        return DIALECTS[self.config.dialect]

    @property
    def timeout(self) -> float:
        """Seconds for a whole attempt."""
        return self.config.timeout or self.dialect.timeout

    @cached_property
    def filter(self) -> Filter:
        """Which events it gets."""
        if self.narrowed is not None:
            return self.narrowed
        config = self.config
        return Filter(channels=channel_globs(config.channels), types=type_globs(config.events), tenant=config.tenant)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The schedule of a delivery to its own URLs."""
        return plan(self.dialect, self.config.retry, failover=self.config.failover_url is not None)

    def live_secrets(self, now: float) -> list[str]:
        """The secrets that sign at Unix time `now`, newest first."""
        return [secret.text for secret in self.secrets if secret.expires is None or secret.expires > now]

    @property
    def public_key(self) -> str | None:
        """Base64 of the raw Ed25519 public key, when it signs with one."""
        if self.secrets and self.secrets[0].text.startswith(PRIVATE_PREFIX) and self._asymmetric:
            return public_key(self.secrets[0].text)
        return None

    @property
    def _asymmetric(self) -> bool:
        return self.dialect.scheme is not None and "ed25519" in self.dialect.scheme.forms

    def rotated(self, secret: str, now: float, overlap: float) -> Endpoint:
        """With a new secret; the ones before sign for `overlap` seconds more, at most ten of them."""
        until = now + overlap
        kept = [
            Secret(old.text, until if old.expires is None else min(old.expires, until))
            for old in self.secrets
            if old.expires is None or old.expires > now
        ]
        old = tuple(kept[:10]) if overlap > 0 else ()
        return replace(self, secrets=(Secret(secret), *old), updated=int(now * 1000))

    def view(self) -> dict[str, Any]:
        """What the API shows: no secret, credentials in headers masked."""
        config = self.config.model_dump(mode="json")
        config["headers"] = masked(self.config.headers)
        times = {"createdAt": format_time(self.created), "updatedAt": format_time(self.updated)}
        shown: dict[str, Any] = {"id": self.id, **config, **times}
        if self.public_key is not None:
            shown["public_key"] = self.public_key
        if self.disabled_reason is not None:
            shown["disabled_reason"] = self.disabled_reason
        return shown
