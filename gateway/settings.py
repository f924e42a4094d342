"""Every setting, once: its name, type, default and meaning.

The environment (``GATEWAY_<NAME>``), the flags of the commands, ``gateway config`` and the README's table are all
made from these fields.  Settings stop at `gateway.app`: below it there are plain values.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.events.filter import stream_globs
from gateway.events.position import is_stream_key

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?\Z")
_UNIT = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: Any) -> Any:
    """``10``, ``1.5s``, ``250ms``, ``10m``, ``2h``, ``7d`` -> seconds. Leaves what is no text alone."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value.strip())
    if match is None:
        raise ValueError("must be a duration such as 30s, 10m, 2h or 7d")
    return float(match[1]) * _UNIT[match[2]]


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _check_streams(streams: tuple[str, ...]) -> tuple[str, ...]:
    if not streams:
        raise ValueError("must name at least one stream key")
    stream_globs(streams)
    if not is_stream_key(streams[0]):
        raise ValueError(f"the first one is the default stream, so it cannot be a glob: {streams[0]!r}")
    return streams


def _check_redis_url(url: SecretStr | None) -> SecretStr | None:
    text = url.get_secret_value() if url else ""
    if text and not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    urlsplit(text).port  # noqa: B018 - raises ValueError for a port that is none
    return url


def _check_http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as http://127.0.0.1:8080")
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment")
    return url.rstrip("/")


def _check_jwks_url(url: str | None) -> str | None:
    if url is not None:
        parts = urlsplit(_check_http_url(url.partition("?")[0]))
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("must be https: whoever stands in between could hand out keys")
    return url


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (not parts.scheme or not parts.netloc or parts.path or parts.query or parts.fragment):
            raise ValueError(f"must be origins such as https://app.example.com, without a path: {origin!r}")
    return origins


def _check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        ipaddress.ip_network(network, strict=False)
    return networks


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
NameList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The settings of one process. Durations are seconds, or texts like ``250ms``, ``30s``, ``10m``, ``7d``."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        validate_default=True,
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    redis_url: Annotated[SecretStr | None, AfterValidator(_check_redis_url)] = Field(
        None,
        validation_alias=AliasChoices("GATEWAY_REDIS_URL", "REDIS_URL", "redis_url"),
        description="Redis >= 6.2 or Valkey: redis://, rediss:// or unix://; without it an embedded Valkey is started",
    )
    data_dir: Path = Field(Path(".gateway"), description="where the embedded Valkey keeps its append-only file")
    embedded_port: int = Field(
        6399,
        ge=0,
        le=65535,
        description="port of the embedded Valkey, on loopback; 0, or the default when it is taken: a free one",
    )
    embedded_fsync: Literal["everysec", "always", "no"] = Field(
        "everysec",
        description="when the embedded Valkey's events are synced to disk: everysec, always or no (up to the system)",
    )
    streams: Annotated[NameList, AfterValidator(_check_streams)] = Field(
        ("events",),
        description="stream keys that are served, comma list, globs allowed; the first is the default",
    )
    bridge: bool = Field(True, description="forward events to webhook endpoints in this process too")
    bridge_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port on which `gateway bridge` answers /healthz, /readyz and /metrics; without it: none",
    )
    workers: int = Field(1, ge=1, le=256, description="processes, each with a listening socket of its own")
    http2: bool = Field(False, description="speak HTTP/2 over TLS too; needs the extra http2 and TLS files")
    ssl_certfile: Path | None = Field(None, description="TLS certificate chain, PEM")
    ssl_keyfile: Path | None = Field(None, description="TLS private key, PEM")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_json: bool = Field(False, description="log lines as JSON")
    insecure: bool = Field(False, description="serve other addresses than loopback although no access is configured")
    demo: bool = Field(False, description="publish sample events")
    demo_rate: float = Field(3.0, gt=0, le=10_000, description="sample events a second")

    retention_events: int = Field(
        1_000_000, ge=0, description="trim each stream to about this many events; 0 = do not trim by count"
    )
    retention_age: Seconds = Field(7 * 86400.0, description="trim events older than this; 0 = do not trim by age")
    retention_hard_events: int = Field(
        10_000_000, ge=0, description="trimming waits for webhook endpoints up to this many events; 0 = without end"
    )
    window_events: int = Field(20_000, ge=1, description="events of each stream kept in memory for replay, at most")
    window_bytes: int = Field(32 << 20, ge=1024, description="bytes of payload of each stream kept in memory, at most")

    heartbeat: Seconds = Field(15.0, gt=0, description="a comment line is sent after this long without a write")
    retry: Seconds = Field(3.0, description="the reconnect delay given to clients, spread by 20 % either way")
    write_timeout: Seconds = Field(
        30.0, gt=0, description="a client that takes no byte for this long is cut off; it resumes by its last id"
    )
    max_connection_age: Seconds = Field(
        0.0, description="streams end after 80 to 100 % of this, so that connections spread anew; 0 = never"
    )
    drain_seconds: Seconds = Field(
        10.0, description="on SIGTERM each stream is ended at a random moment of this long, so that clients spread"
    )
    max_replays: int = Field(64, ge=1, description="replays from Redis at once; more wait their turn")

    max_body_bytes: int = Field(1 << 20, ge=1024, description="largest body of POST /api/events")
    max_event_bytes: int = Field(256 << 10, ge=256, description="largest single event over HTTP")
    publish_timeout: Seconds = Field(5.0, gt=0, description="how long a publish may wait for Redis before it is a 503")
    request_timeout: Seconds = Field(10.0, gt=0, description="how long a client may take to send its request")
    max_header_bytes: int = Field(32 << 10, ge=1024, description="largest request line and headers together")

    jwt_secret: SecretStr | None = Field(None, description="secret of HS256 tokens, 32 bytes or more")
    jwt_public_key: str | None = Field(
        None, description="public key of RS256, ES256 or EdDSA tokens: PEM, or the path of a PEM file"
    )
    jwt_jwks_url: Annotated[str | None, AfterValidator(_check_jwks_url)] = Field(
        None, description="URL of the key set (JWKS) of RS256, ES256 or EdDSA tokens"
    )
    jwt_issuer: str | None = Field(None, description="tokens must have this issuer; without it any will do")
    jwt_audience: str | None = Field(
        None, description="tokens must be for this audience; without it tokens that name one are refused"
    )
    jwt_leeway: Seconds = Field(0.0, le=300, description="how far the clock of the tokens' issuer may be off")
    cors_origins: Annotated[NameList, AfterValidator(_check_origins)] = Field(
        (), description="origins whose pages may use the API, comma list; * = all, but without cookies"
    )
    trusted_proxies: Annotated[NameList, AfterValidator(_check_networks)] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="addresses and ranges of proxies whose X-Forwarded-For is believed, comma list",
    )
    public_metrics: bool = Field(False, description="serve /metrics to everybody; else it needs the scope admin")

    max_connections: int = Field(100_000, ge=0, description="open streams of a process; 0 = no limit")
    max_connections_per_ip: int = Field(
        10_000, ge=0, description="open streams from one address, loopback and trusted proxies aside; 0 = no limit"
    )
    max_connections_per_principal: int = Field(
        10_000, ge=0, description="open streams of one key or token subject in a process; 0 = no limit"
    )
    max_attempts_per_ip: int = Field(
        20, ge=0, description="unknown keys and tickets that one address may try in a second; 0 = no limit"
    )
    max_filters_per_principal: int = Field(
        10_000, ge=0, description="different filters among those streams; 0 = no limit"
    )
    max_replays_per_principal: int = Field(
        256, ge=0, description="of those streams, how many may replay from Redis at once; 0 = no limit"
    )
    publish_events_per_second: float = Field(
        10_000, ge=0, description="events a second that one key or token subject may publish to a process; 0 = no limit"
    )
    publish_bytes_per_second: float = Field(32 << 20, ge=0, description="bytes a second, likewise; 0 = no limit")
    secret_key: SecretStr | None = Field(
        None, min_length=16, description="encrypts the signing secrets of webhooks in Redis; the same in all processes"
    )
    webhook_allow_http: bool = Field(False, description="allow http URLs for webhooks; else https only")
    webhook_allow_cidrs: Annotated[NameList, AfterValidator(_check_networks)] = Field(
        (), description="private or special networks that webhooks may go to all the same, comma list"
    )
    webhook_default_secret: SecretStr | None = Field(
        None,
        description="signs events that bring a URL no endpoint stands for, whsec_ or whsk_; else a secret is made",
    )
    webhook_ca_file: Path | None = Field(None, description="authorities to trust for webhooks, PEM, besides the public")
    webhook_logs: int = Field(1_000, ge=1, le=1_000_000, description="deliveries kept in the log of each endpoint")
    webhook_logs_age: Seconds = Field(7 * 86400.0, description="deliveries older than this leave the log")
    max_endpoints_per_tenant: int = Field(100, ge=0, description="webhook endpoints of one tenant; 0 = no limit")


class ClientSettings(BaseSettings):
    """Where the client commands find the gateway."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", env_ignore_empty=True, extra="forbid", frozen=True, validate_default=True
    )

    url: Annotated[str, AfterValidator(_check_http_url)] = Field(
        "http://127.0.0.1:8080", description="the gateway to talk to"
    )
    token: SecretStr | None = Field(None, description="API key or JWT, sent as Authorization: Bearer")
