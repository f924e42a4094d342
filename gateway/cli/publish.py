"""``gateway publish``: one event from the command line, or many from a file or a pipe."""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateway.cli import console
from gateway.cli.client import UNREACHABLE, Refused, reason, run, session
from gateway.cli.flags import with_settings
from gateway.cli.ndjson import Batch, batches
from gateway.cli.publisher import Publisher
from gateway.events import rules
from gateway.events.jsontext import is_json, quote
from gateway.events.position import is_stream_key
from gateway.settings import ClientSettings

app = typer.Typer()

_ITEM = re.compile(r"\[(\d+)\]\.?")


def _read_data(argument: str | None) -> bytes:
    """The payload as JSON text, spelled as it was given; other text becomes a JSON string; nothing becomes null."""
    if argument is None:
        return b"null"
    if argument == "-":
        text = sys.stdin.buffer.read()
        text = text[:-1] if text.endswith(b"\n") else text
    else:
        text = os.fsencode(argument)
    if is_json(text):
        return text
    try:
        return quote(text.decode())
    except UnicodeDecodeError:
        console.wrong_usage("DATA is not UTF-8 text")


def _check(name: str, value: str | None, rule: Callable[[str], None]) -> None:
    if value is not None:
        try:
            rule(value)
        except ValueError as error:
            console.wrong_usage(f"{name}: {error}, not {value!r}")


def _check_stream(text: str) -> None:
    if not is_stream_key(text):
        raise ValueError("must be 1 to 128 characters of A-Z a-z 0-9 _ . : { } -")


def _event(type_: str, data: bytes, optional: dict[str, str | None]) -> bytes:
    parts = [b'"type":' + quote(type_), b'"data":' + data]
    parts += [quote(name) + b":" + quote(value) for name, value in optional.items() if value is not None]
    return b"{" + b",".join(parts) + b"}"


async def _publish_one(client: ClientSettings, event: bytes, key: str, patience: float) -> list[str]:
    async with session(client) as http:
        publisher = Publisher(http, client.url, patience=patience, note=console.note)
        return await publisher.publish(event, "application/json", key)


class _Run:
    """Publishing one input, batch after batch, in order."""

    def __init__(self, client: ClientSettings, fd: int, key: str | None, patience: float) -> None:
        self._client = client
        self._fd = fd
        self._patience = patience
        kind = os.fstat(fd)
        self._size = kind.st_size if stat.S_ISREG(kind.st_mode) else None
        self._live = key is None and self._size is None
        self._key = key or secrets.token_urlsafe(12)
        self._began = time.monotonic()
        self.published = 0
        self.first = self.last = ""

    async def run(self, advance: Callable[[int, int], None]) -> None:
        """Publish all; `advance` is told events and bytes. Exits with 1 on a failure, saying how to go on."""
        async with session(self._client) as http:
            publisher = Publisher(http, self._client.url, patience=self._patience, note=console.note)
            index = 0
            async for batch in batches(self._fd, live=self._live):
                await self._send(publisher, batch, f"{self._key}-{index}")
                advance(len(batch.lines), batch.size)
                index += 1

    async def _send(self, publisher: Publisher, batch: Batch, key: str) -> None:
        try:
            ids = await publisher.publish(b"\n".join(batch.lines) + b"\n", "application/x-ndjson", key)
        except Refused as error:
            self._failed(_blame(batch, error))
        except UNREACHABLE as error:
            self._failed(f"cannot reach {self._client.url}: {reason(error)}")
        self.first = self.first or ids[0]
        self.last = ids[-1]
        self.published += len(ids)

    def _failed(self, why: str) -> NoReturn:
        again = "" if self._live else f"; run again with --idempotency-key {self._key} to go on without doubling"
        console.fail(f"{why}; {self.published} events were published before{again}")

    def report(self, as_json: bool) -> None:
        """Say what was done, on stdout."""
        if as_json:
            summary = {"published": self.published, "first": self.first or None, "last": self.last or None}
            console.write_json({**summary, "idempotency_key": self._key})
            return
        seconds = max(time.monotonic() - self._began, 0.001)
        ids = f", ids {self.first} to {self.last}" if self.published else ""
        console.out.print(
            f"{self.published} events published in {seconds:.1f} s ({self.published / seconds:.0f}/s){ids}"
        )

    def progress(self) -> Progress:
        """A bar by bytes for a file, a counter for a pipe; nothing where stderr is no terminal."""
        columns = [TextColumn("publishing"), BarColumn(), TextColumn("{task.fields[events]} events")]
        timing = [TaskProgressColumn(), TimeRemainingColumn()] if self._size else [MofNCompleteColumn()]
        return Progress(*columns, *timing, console=console.err, disable=not console.err.is_terminal, transient=True)

    @property
    def size(self) -> int | None:
        """Bytes of the input, where it is a file."""
        return self._size


def _blame(batch: Batch, error: Refused) -> str:
    """The refusal with the line of the input in place of the index in the batch."""
    for part in error.errors:
        match = _ITEM.match(str(part.get("field", "")))
        if match is not None and int(match[1]) < len(batch.numbers):
            rest = str(part["field"])[match.end() :]
            return f"line {batch.numbers[int(match[1])]}: {rest + ': ' if rest else ''}{part.get('message', '')}"
    first, last = batch.numbers[0], batch.numbers[-1]
    return f"{f'line {first}' if first == last else f'lines {first} to {last}'}: {error}"


def _publish_many(client: ClientSettings, source: str, key: str | None, patience: float, as_json: bool) -> None:
    try:
        fd = sys.stdin.fileno() if source == "-" else os.open(Path(source), os.O_RDONLY)
        work = _Run(client, fd, key, patience)
    except OSError as error:
        console.wrong_usage(f"--ndjson: cannot read {source}: {error.strerror}")
    with work.progress() as bar:
        task = bar.add_task("publish", total=work.size, events=0)

        def advance(events: int, size: int) -> None:
            bar.update(task, advance=size, events=work.published)

        run(client, work.run(advance))
    work.report(as_json)


@app.command()
@with_settings
def publish(
    type_: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Event type, such as sms.delivered.")] = None,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA|-]", help="JSON; other text becomes a JSON string; - reads stdin.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Default: the first segment of TYPE.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose event it is.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream key; default: the gateway's first.")] = None,
    time_: Annotated[str | None, typer.Option("--time", help="When it happened, RFC 3339.")] = None,
    ndjson: Annotated[str | None, typer.Option(metavar="FILE|-", help="Publish many: one event object a line.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Publishing again with the same key stores nothing new for 24 h.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to keep trying while the gateway is away.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    *,
    client: ClientSettings,
) -> None:
    """Publish one event and print its id; or, with --ndjson, many in order."""
    optional = {"channel": channel, "tenant": tenant, "stream": stream, "time": time_}
    if ndjson is not None:
        if type_ is not None or any(value is not None for value in optional.values()):
            console.wrong_usage(
                "--ndjson takes all of an event from its line: give no TYPE and no event options with it"
            )
        _publish_many(client, ndjson, idempotency_key, wait, as_json)
        return
    if type_ is None:
        console.wrong_usage("give a TYPE and DATA, or --ndjson FILE")
    for name, value, rule in (
        ("TYPE", type_, rules.check_type),
        ("--channel", channel, rules.check_name),
        ("--tenant", tenant, rules.check_name),
        ("--time", time_, rules.check_time),
        ("--stream", stream, _check_stream),
    ):
        _check(name, value, rule)
    event = _event(type_, _read_data(data), optional)
    ids = run(client, _publish_one(client, event, idempotency_key or secrets.token_urlsafe(12), wait))
    if ids is None:
        console.fail("interrupted; the event may have been published")
    if as_json:
        console.write_json({"ids": ids})
    else:
        console.write_lines(ids)
