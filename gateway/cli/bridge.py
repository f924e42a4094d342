"""``gateway bridge``: the bridge alone, as many as wanted; they share the work by leases in Redis."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer
import uvloop
from pydantic import SecretStr

from gateway.app import Gateway
from gateway.backend.datadir import EmbeddedError, find_embedded
from gateway.backend.masking import masked_url
from gateway.cli import console
from gateway.cli.flags import Only, with_settings
from gateway.guard import AccessError
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


async def _run(settings: Settings) -> None:
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    assert settings.redis_url is not None
    async with Gateway(settings).running():
        console.note(f"delivering webhooks from {masked_url(settings.redis_url.get_secret_value())}; Ctrl-C ends it")
        await over.wait()


@app.command()
@with_settings
def bridge(
    settings: Annotated[
        Settings,
        Only(
            "redis_url", "data_dir", "streams", "log_level", "log_json", "secret_key", "webhook_allow_http",
            "webhook_allow_cidrs", "webhook_default_secret", "webhook_ca_file", "webhook_logs", "webhook_logs_age",
        ),
    ],
) -> None:  # fmt: skip
    """Deliver webhooks, and nothing else. Start as many as wanted: they share the endpoints."""
    configure_logging(settings.log_level, settings.log_json)
    try:
        uvloop.run(_run(_located(settings.model_copy(update={"bridge": True}))))
    except (EmbeddedError, AccessError) as error:
        console.fail(str(error))
