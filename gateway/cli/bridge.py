"""``gateway bridge``: the bridge alone, as many as wanted; they share the work by leases in Redis."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer
import uvloop
from pydantic import SecretStr

from gateway.app import Gateway, create_bridge_app
from gateway.backend.datadir import EmbeddedError, find_embedded
from gateway.backend.masking import masked_url
from gateway.cli import console
from gateway.cli.flags import Only, with_settings
from gateway.guard import AccessError, check_access
from gateway.server import serve
from gateway.settings import Settings
from gateway.telemetry import configure_logging

app = typer.Typer()


def _located(settings: Settings) -> Settings:
    """With the URL of the embedded server that runs now, when none was named."""
    if settings.redis_url is not None:
        return settings
    url = find_embedded(settings.data_dir)
    if url is None:
        console.wrong_usage("name a Redis with --redis-url, or run gateway serve with the same --data-dir")
    return settings.model_copy(update={"redis_url": SecretStr(url)})


def _say(settings: Settings, base: str | None = None) -> None:
    assert settings.redis_url is not None
    where = f", answering on {base}" if base is not None else ""
    source = masked_url(settings.redis_url.get_secret_value())
    console.note(f"delivering webhooks from {source}{where}; Ctrl-C ends it")


async def _run(settings: Settings) -> None:
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with Gateway(settings).running():
        _say(settings)
        await over.wait()


def _listen(settings: Settings, port: int) -> None:
    """The same, with a port for probes and for Prometheus."""
    settings = settings.model_copy(update={"port": port})
    asyncio.run(check_access(settings))
    try:
        code = serve(settings, on_started=lambda base: _say(settings, base), make_app=create_bridge_app)
    except OSError as error:
        console.fail(f"cannot listen on {settings.host} port {port}: {error.strerror or error}")
    if code:
        raise typer.Exit(code)


@app.command()
@with_settings
def bridge(
    settings: Annotated[
        Settings,
        Only(
            "redis_url", "data_dir", "streams", "log_level", "log_json", "secret_key", "webhook_allow_http",
            "webhook_allow_cidrs", "webhook_default_secret", "webhook_ca_file", "webhook_logs", "webhook_logs_age",
            "bridge_port", "host", "insecure", "public_metrics",
        ),
    ],
) -> None:  # fmt: skip
    """Deliver webhooks, and nothing else. Start as many as wanted: they share the endpoints."""
    configure_logging(settings.log_level, settings.log_json)
    settings = _located(settings.model_copy(update={"bridge": True}))
    try:
        if settings.bridge_port is None:
            uvloop.run(_run(settings))
        else:
            _listen(settings, settings.bridge_port)
    except (EmbeddedError, AccessError) as error:
        console.fail(str(error))
