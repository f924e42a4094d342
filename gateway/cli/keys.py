"""``gateway keys``: API keys, in Redis itself."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from rich.table import Table

from gateway.access.keys import KeyStore, NoSuchKey
from gateway.access.principal import LIMITS, SCOPES
from gateway.backend.connection import UNAVAILABLE, connect
from gateway.backend.datadir import EmbeddedError, find_embedded
from gateway.backend.embedded import EmbeddedValkey
from gateway.backend.masking import masked_url
from gateway.cli import console
from gateway.cli.flags import Only, with_settings
from gateway.events.event import format_time
from gateway.settings import Settings, parse_duration

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="API keys: who may subscribe, publish and configure."
)
T = TypeVar("T")

_ID = re.compile(r"key_[0-9a-f]{16}\Z")
_Where = Annotated[Settings, Only("redis_url", "data_dir")]
_Scopes = Annotated[str | None, typer.Option(help=f"Comma list of {', '.join(SCOPES)}.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


class _Rights(NamedTuple):
    """What a key may do; None: not named."""

    tenant: Annotated[str | None, typer.Option(help="Sees and publishes events of this tenant only.")] = None
    channels: Annotated[str | None, typer.Option(help="Comma list of channels and globs; default all.")] = None
    types: Annotated[str | None, typer.Option(help="Comma list of event types and globs; default all.")] = None
    streams: Annotated[str | None, typer.Option(help="Comma list of stream keys and globs; default all.")] = None
    expires: Annotated[str | None, typer.Option(help="Ends after this long: 12h, 90d; or never.")] = None
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help=f"A limit of its own, repeatable; 0 = none. Names: {', '.join(LIMITS)}."),
    ] = None


_NONE = _Rights()


@app.command()
@with_settings
def create(
    settings: _Where,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scopes: Annotated[str, typer.Option(help=f"Comma list of {', '.join(SCOPES)}.")],
    rights: _Rights = _NONE,
    as_json: _Json = False,
) -> None:
    """Make a key. It is shown this once: Redis keeps its hash."""
    given, limits = _rights(rights), _limits(rights.limit)
    record, key = _run(settings, lambda store: store.create(name, _list(scopes), given, limits))
    if as_json:
        console.write_json({"id": record.id, "key": key, **record.view(time.time())})
        return
    console.write_lines([key])
    console.note(f"{record.id} may {', '.join(sorted(record.principal.scopes))}; the key is not shown again")


@app.command("list")
@with_settings
def list_(settings: _Where, as_json: _Json = False) -> None:
    """All keys, revoked ones too."""
    records = _run(settings, lambda store: store.load())
    views = [record.view(time.time()) for record in sorted(records.values(), key=lambda record: record.created)]
    if as_json:
        console.write_json({"keys": views})
        return
    table = Table(box=None)
    for title in ("id", "name", "state", "scopes", "tenant", "channels", "types", "streams", "expires"):
        table.add_column(title, no_wrap=title == "id", overflow="fold")
    for view in views:
        lists = (", ".join(view[part]) if view[part] is not None else "*" for part in ("channels", "types", "streams"))
        until = "" if view["expires_at"] is None else format_time(int(view["expires_at"] * 1000))
        scopes = ", ".join(view["scopes"])
        table.add_row(view["id"], view["name"], view["state"], scopes, view["tenant"] or "", *lists, until)
    console.out.print(table, markup=False)


@app.command()
@with_settings
def update(
    settings: _Where,
    id: Annotated[str, typer.Argument(help="The key's id, key_...")],
    scopes: _Scopes = None,
    rights: _Rights = _NONE,
    as_json: _Json = False,
) -> None:
    """Give a key other rights; they count within 2 s, for open streams too. What is not named stays."""
    given, limits = _rights(rights), _limits(rights.limit)
    wanted = None if scopes is None else _list(scopes)
    record = _run(settings, lambda store: store.change(_id(id), wanted, given, limits))
    if as_json:
        console.write_json(record.view(time.time()))
    else:
        console.note(f"{record.id} changed")


@app.command()
@with_settings
def revoke(
    settings: _Where, id: Annotated[str, typer.Argument(help="The key's id, key_...")], as_json: _Json = False
) -> None:
    """End a key; its open streams are closed within 2 s, by every process."""
    record = _run(settings, lambda store: store.revoke(_id(id)))
    if as_json:
        console.write_json(record.view(time.time()))
    else:
        console.note(f"{record.id} ({record.name}) is revoked")


def _id(text: str) -> str:
    if _ID.match(text) is None:
        console.wrong_usage("the id of a key is key_ and 16 hex digits: see gateway keys list")
    return text


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _rights(options: _Rights) -> dict[str, Any]:
    rights: dict[str, Any] = {} if options.tenant is None else {"tenant": options.tenant}
    lists = {"channels": options.channels, "types": options.types, "streams": options.streams}
    rights |= {name: _list(value) for name, value in lists.items() if value is not None}
    if options.expires is not None:
        try:
            rights["expires_at"] = None if options.expires == "never" else time.time() + parse_duration(options.expires)
        except ValueError as error:
            console.wrong_usage(f"--expires: {error}")
    return rights


def _limits(pairs: list[str] | None) -> dict[str, float]:
    limits: dict[str, float] = {}
    for pair in pairs or ():
        name, _, value = pair.partition("=")
        if name not in LIMITS or not re.fullmatch(r"[0-9]{1,12}(\.[0-9]+)?", value):
            console.wrong_usage(f"--limit: must be NAME=N with a name of {', '.join(LIMITS)}")
        limits[name] = float(value)
    return limits


@contextmanager
def _url(settings: Settings) -> Generator[str]:
    """The Redis of the flags, the embedded one that runs now, or else the embedded one, started for this command."""
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    running = find_embedded(settings.data_dir)
    if running is not None:
        yield running
        return
    with EmbeddedValkey(settings.data_dir, port=0) as embedded:
        yield embedded.state.url


def _run(settings: Settings, act: Callable[[KeyStore], Awaitable[T]]) -> T:
    async def connected(url: str) -> T:
        client = connect(url, name="gateway-keys", timeout=5.0, connections=1)
        try:
            return await act(KeyStore(client, time.time, os.urandom))
        finally:
            await client.aclose()

    where = "the embedded Valkey"
    try:
        with _url(settings) as url:
            where = masked_url(url)
            return asyncio.run(connected(url))
    except NoSuchKey as error:
        console.fail(f"there is no key {error}")
    except ValueError as error:
        console.wrong_usage(str(error))
    except EmbeddedError as error:
        console.fail(str(error))
    except UNAVAILABLE as error:
        console.fail(f"Redis at {where} did not do it: {error}")
