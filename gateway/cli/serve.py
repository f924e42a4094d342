"""``gateway serve``: everything in one go."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

import typer
from pydantic import SecretStr

from gateway.backend.datadir import EmbeddedError
from gateway.backend.embedded import EmbeddedValkey
from gateway.backend.inspection import RedisProblem, inspect_loaded
from gateway.cli import banner, console
from gateway.cli.demo import Demo
from gateway.cli.flags import unknown_variables, with_settings
from gateway.guard import AccessError, check_access
from gateway.server import is_port_taken, supervise
from gateway.server import serve as run_one
from gateway.settings import ClientSettings, Settings
from gateway.telemetry import configure_logging

app = typer.Typer()

_LOADING_PATIENCE = 60.0
"""Seconds that a Redis may need to load its data when we start together, as after a reboot."""


class _Source(NamedTuple):
    """A Redis to serve from."""

    url: str
    about: str
    warnings: list[str]


@contextmanager
def _redis(settings: Settings) -> Generator[_Source]:
    """The one that was named, or the embedded one, which runs as long as the context. Raises `RedisProblem`."""
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        report = asyncio.run(inspect_loaded(url, patience=_LOADING_PATIENCE, waiting=console.note))
        for finding in report.problems():
            if finding.severity == "error":
                raise RedisProblem(finding.text)
        yield _Source(url, report.name, [finding.text for finding in report.problems()])
        return
    embedded = EmbeddedValkey(
        settings.data_dir,
        port=settings.embedded_port,
        fallback="embedded_port" not in settings.model_fields_set,
        fsync=settings.embedded_fsync,
    )
    with embedded:
        port = embedded.state.port
        warning = (
            f"port {settings.embedded_port} is taken by another program, so the embedded Valkey listens on {port}; "
            "choose one with --embedded-port"
        )
        how = "adopted, " if embedded.adopted else ""
        about = f"embedded Valkey {embedded.version}, {how}data in {embedded.data_dir}"
        yield _Source(embedded.state.url, about, [warning] if embedded.port_was_taken else [])


def _stop(*_: object) -> None:
    # As Ctrl-C does: the context managers get to stop what they have started.
    raise KeyboardInterrupt


def _serve(settings: Settings) -> int:
    with _redis(settings) as source:
        settings = settings.model_copy(update={"redis_url": SecretStr(source.url)})
        warnings = [*source.warnings, *unknown_variables(Settings, ClientSettings)]
        if asyncio.run(check_access(settings)):
            warnings.insert(0, f"no access is configured: whoever reaches {settings.host} may subscribe and publish")
        demo = Demo(source.url, settings.streams[0], settings.demo_rate) if settings.demo else None

        def started(base: str) -> None:
            sampled = f"{settings.demo_rate:g} events a second on {settings.streams[0]}" if demo else None
            banner.show(base, source.url, source.about, settings.streams, sampled)
            for text in warnings:
                console.warn(text)
            if demo:
                demo.start()

        try:
            run = supervise if settings.workers > 1 else run_one
            return run(settings, on_started=started)
        finally:
            if demo:
                demo.stop()


def _cannot_listen(settings: Settings, error: OSError) -> str:
    if is_port_taken(error):
        return f"port {settings.port} on {settings.host} is taken by another program; choose another with --port"
    return f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}"


@app.command()
@with_settings
def serve(settings: Settings) -> None:
    """Serve events, the API and the dashboard; without a Redis URL with a Valkey of its own."""
    configure_logging(settings.log_level, settings.log_json)
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = _serve(settings)
    except KeyboardInterrupt:
        code = 0
    except (EmbeddedError, RedisProblem, AccessError) as error:
        console.fail(str(error))
    except OSError as error:
        console.fail(_cannot_listen(settings, error))
    if code:
        raise typer.Exit(code)
