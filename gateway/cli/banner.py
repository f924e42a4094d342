"""What ``gateway serve`` says first: what runs where, and lines to copy."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from gateway import __version__
from gateway.backend.masking import masked_url
from gateway.cli import console

_SAMPLE = '{"type":"sms.delivered","data":{"id":"msg_1","status":"delivered"}}'
_SAMPLE_DATA = '{"id":"msg_1","status":"delivered"}'


def show(url: str, redis_url: str, server: str, streams: tuple[str, ...], demo: str | None) -> None:
    """Print it. `server` describes the Redis; `demo` what is published by itself, if anything."""
    rows = [
        ("gateway", url),
        ("dashboard", f"{url}/"),
        ("redis", f"{masked_url(redis_url)}  ({server})"),
        ("streams", ", ".join(streams)),
        *([("demo", demo)] if demo else []),
        ("subscribe", f"curl -N {url}/api/events"),
        ("publish", f"curl {url}/api/events -H 'Content-Type: application/json' -d '{_SAMPLE}'"),
        ("", _xadd(redis_url, streams[0])),
    ]
    try:
        _print(rows)
    except (BrokenPipeError, SystemExit):
        # Whoever read the first lines has gone (`gateway serve | head -1`; rich answers with SystemExit): serve on.
        console.silence_stdout()


def _print(rows: list[tuple[str, str]]) -> None:
    out = console.out
    out.print(f"[bold]gateway {__version__}[/]")
    for name, text in rows:
        out.print(f"  [bold cyan]{name:<10}[/]", end=" ")
        out.print(text, markup=False)
    # The reader may be a pipe: a script that waits for these lines must not wait for a full buffer.
    out.file.flush()


def _xadd(redis_url: str, stream: str) -> str:
    parts = urlsplit(masked_url(redis_url))
    if parts.scheme == "unix":
        where = f"-s {shlex.quote(parts.path)}"
    elif (parts.hostname, parts.scheme, parts.username, parts.password) == ("127.0.0.1", "redis", None, None):
        where = f"-p {parts.port or 6379}"
    else:
        where = f"-u {shlex.quote(masked_url(redis_url))}"
    return f"redis-cli {where} XADD {stream} '*' type sms.delivered data '{_SAMPLE_DATA}'"
