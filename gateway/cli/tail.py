"""``gateway tail``: follow events as they happen."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import aclosing
from typing import Annotated

import typer
from rich.text import Text

from gateway.cli import console
from gateway.cli.client import run, session
from gateway.cli.eventstream import ServerEvent
from gateway.cli.flags import with_settings
from gateway.cli.follow import TIMEOUT, Ended, Follower
from gateway.events.envelope import ENCODERS
from gateway.events.jsontext import NotJSON, loads, members
from gateway.settings import ClientSettings

app = typer.Typer()


class Printer:
    """Events on stdout, one a line; control events on stderr."""

    def __init__(self, as_json: bool, limit: int = 0) -> None:
        self._as_json = as_json
        self._left = limit or -1

    def write(self, events: Iterable[ServerEvent]) -> bool:
        """Print and flush. False when enough has been printed."""
        lines = []
        for event in events:
            if event.type.startswith("gateway."):
                self._control(event)
            elif self._left:
                self._left -= 1
                lines.append(event.data)
        if lines and self._as_json:
            console.write_lines(lines)
        elif lines:
            for line in lines:
                console.out.print(_for_people(line))
        return self._left != 0

    def _control(self, event: ServerEvent) -> None:
        try:
            data = loads(event.data)
        except NotJSON:
            data = {}
        if event.type == "gateway.gap":
            console.warn(
                f"gap: events of {data.get('stream')} after {data.get('requested')} are gone ({data.get('reason')}); "
                f"going on from {data.get('resumed_at')}"
            )
        elif event.type == "gateway.skipped":
            console.warn(f"skipped entry {data.get('id')} of {data.get('stream')}: {data.get('reason')}")


def _for_people(envelope: str) -> Text:
    try:
        parts = dict(members(envelope))
    except NotJSON:
        return Text(envelope)
    if not {"time", "type", "data"} <= parts.keys():
        return Text(envelope)
    time, type_, tenant = (parts.get(name, "").strip('"') for name in ("time", "type", "tenant"))
    return Text.assemble(
        (time[11:23] if time.endswith("Z") else time, "dim"),
        "  ",
        (type_, "bold cyan"),
        (f"  {tenant}" if tenant else "", "magenta"),
        "  ",
        parts["data"],
    )


def _query(types: list[str], channel: list[str], stream: list[str], **single: str | None) -> dict[str, str]:
    query = {name: value for name, value in single.items() if value is not None}
    lists = {"type": types, "channel": channel, "stream": stream}
    return query | {name: ",".join(values) for name, values in lists.items() if values}


async def _follow(client: ClientSettings, query: dict[str, str], printer: Printer, patience: float) -> None:
    _end_with_reader()
    async with session(client, TIMEOUT) as http:
        follower = Follower(http, client.url, query, note=console.note, patience=patience)
        async with aclosing(follower.batches()) as batches:
            async for events in batches:
                if not printer.write(events):
                    return


def _end_with_reader() -> None:
    """End this task when whoever reads our stdout has gone, also while nothing is written (``tail | head -1``)."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def gone() -> None:
        loop.remove_reader(fd)
        if task is not None:
            task.cancel()

    try:
        fd = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            # The writing end of a pipe is never readable: this fires on the error that the last reader leaves behind.
            loop.add_reader(fd, gone)
    except (OSError, ValueError, NotImplementedError):
        return


@app.command()
@with_settings
def tail(
    types: Annotated[list[str] | None, typer.Argument(metavar="[TYPE]...", help="Event types or globs.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Channel or glob; may be repeated.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Stream key; may be repeated.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Start at an event id, an RFC 3339 time, 10m/2h/7d ago, earliest or latest.")
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, max=1000, help="Begin with the last N matching events.")] = None,
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(ENCODERS)}.")] = "native",
    as_json: Annotated[
        bool | None,
        typer.Option("--json/--text", help="One envelope a line, or lines for people; default: by what stdout is."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Stop after N events; 0 = never.")] = 0,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a gateway that is not there at first.")] = 5.0,
    *,
    client: ClientSettings,
) -> None:
    """Follow events; connects again by itself and goes on where it stopped. Ctrl-C ends it."""
    if format_ not in ENCODERS:
        console.wrong_usage(f"--format: must be one of {', '.join(ENCODERS)}, not {format_!r}")
    query = _query(
        types or [],
        channel or [],
        stream or [],
        since=since,
        last=None if last is None else str(last),
        format=None if format_ == "native" else format_,
    )
    printer = Printer((not sys.stdout.isatty() or format_ != "native") if as_json is None else as_json, count)
    try:
        run(client, _follow(client, query, printer, wait))
    except BrokenPipeError:
        console.silence_stdout()
    except Ended as error:
        console.fail(str(error))
    except asyncio.CancelledError:
        console.silence_stdout()
