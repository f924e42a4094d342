"""``gateway webhooks``: endpoints and their deliveries, over the gateway's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from gateway.bridge.dialects import DIALECTS
from gateway.cli import console
from gateway.cli.client import refused, run, session
from gateway.cli.flags import with_settings
from gateway.settings import ClientSettings, parse_duration

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Webhook endpoints and their deliveries.")

_Id = Annotated[str, typer.Argument(help="The endpoint's id, whk_...")]
_Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def _call(
    client: ClientSettings, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
) -> Any:
    """The answer of the API; exits with 1 on an error."""

    async def work() -> Any:
        async with (
            session(client) as http,
            http.request(method, f"{client.url}/api/webhooks{path}", json=body, params=query) as response,
        ):
            if response.status >= 400:
                raise await refused(response)
            raw = await response.read()
            return orjson.loads(raw) if raw else {}

    answer = run(client, work())
    if answer is None:
        raise typer.Exit(console.FAILED)
    return answer


def _field(pair: str) -> tuple[str, Any]:
    """``NAME=VALUE``: the value is JSON where it can be, else text."""
    name, sign, value = pair.partition("=")
    if not sign or not name:
        console.wrong_usage(f"--set: must be NAME=VALUE, not {pair!r}")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def _table(*titles: str) -> Table:
    table = Table(box=None)
    for title in titles:
        table.add_column(title, no_wrap=title == "id", overflow="fold")
    return table


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        console.write_json(answer)
        return
    table = Table(box=None, show_header=False)
    for name, value in answer.items():
        if value is not None and value != {} and value != []:
            table.add_row(name, value if isinstance(value, str) else orjson.dumps(value).decode())
    console.out.print(table, markup=False)


@app.command()
@with_settings
def add(
    target: Annotated[str, typer.Argument(metavar="URL", help="Where to POST.")],
    event: Annotated[list[str] | None, typer.Option(help="Event type or glob; may be repeated; default all.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Channel or glob; may be repeated.")] = None,
    dialect: Annotated[str, typer.Option(help=f"One of {', '.join(DIALECTS)}.")] = "standard",
    stream: Annotated[str | None, typer.Option(help="Stream key; default the gateway's first.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only events of this tenant.")] = None,
    failover_url: Annotated[str | None, typer.Option(help="Tried after the last attempt.")] = None,
    secret: Annotated[str | None, typer.Option(help="A secret that the receiver already has.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other field; may be repeated.")
    ] = None,
    as_json: _Json = False,
    *,
    client: ClientSettings,
) -> None:
    """Make an endpoint. Its secret is shown this once."""
    body: dict[str, Any] = {"url": target, "dialect": dialect, "events": event or ["*"], "channels": channel or []}
    optional = {"stream": stream, "tenant": tenant, "failover_url": failover_url, "secret": secret}
    body |= {name: value for name, value in optional.items() if value is not None}
    body |= dict(_field(pair) for pair in set_ or ())
    made = _call(client, "POST", "", body)
    if as_json:
        console.write_json(made)
        return
    key = made.get("secret") or made.get("public_key")
    console.write_lines([made["id"], *([key] if key else [])])
    if "secret" in made:
        console.note("the second line is the signing secret; it is not shown again")
    elif key:
        console.note("the second line is the public key; the private key never leaves the gateway")


@app.command("list")
@with_settings
def list_(as_json: _Json = False, *, client: ClientSettings) -> None:
    """All endpoints."""
    answer = _call(client, "GET", "")
    if as_json:
        console.write_json(answer)
        return
    table = _table("id", "url", "events", "dialect", "state", "created")
    for it in answer["webhooks"]:
        state = "active" if it["active"] else f"disabled ({it.get('disabled_reason', 'manual')})"
        table.add_row(it["id"], it["url"], ", ".join(it["events"]), it["dialect"], state, it["createdAt"])
    console.out.print(table, markup=False)


@app.command()
@with_settings
def show(id: _Id, as_json: _Json = False, *, client: ClientSettings) -> None:
    """One endpoint, and where it stands."""
    _show(_call(client, "GET", f"/{id}"), as_json)


@app.command()
@with_settings
def logs(
    id: _Id,
    log: Annotated[str | None, typer.Argument(help="A delivery's id, log_...: shows every attempt.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    status: Annotated[str | None, typer.Option(help="pending, retrying, delivered, failed or cancelled.")] = None,
    resend: Annotated[bool, typer.Option(help="Deliver this one again, with a full schedule.")] = False,
    as_json: _Json = False,
    *,
    client: ClientSettings,
) -> None:
    """Deliveries, newest first; or one of them with every attempt."""
    if log is not None:
        path = f"/{id}/logs/{log}"
        _show(_call(client, "POST", f"{path}/resend") if resend else _call(client, "GET", path), as_json)
        return
    if resend:
        console.wrong_usage("--resend needs the id of a delivery")
    query = {"limit": str(limit)} | ({"status": status} if status else {})
    answer = _call(client, "GET", f"/{id}/logs", query=query)
    if as_json:
        console.write_json(answer)
        return
    table = _table("id", "event", "status", "attempts", "code", "created", "next")
    for it in answer["logs"]:
        code = str(it["responseCode"] or it["error"] or "")
        table.add_row(
            it["id"],
            it["eventType"],
            it["status"],
            str(it["attempts"]),
            code,
            it["createdAt"],
            it["nextAttemptAt"] or "",
        )
    console.out.print(table, markup=False)


@app.command()
@with_settings
def test(id: _Id, as_json: _Json = False, *, client: ClientSettings) -> None:
    """Send a gateway.test event now. Exits with 1 when the receiver does not take it."""
    answer = _call(client, "POST", f"/{id}/test")
    if as_json:
        console.write_json(answer)
    else:
        console.write_lines(
            [f"{answer['status']} {answer['responseCode'] or answer['error']} {answer['detail']}".strip()]
        )
    if answer["status"] != "delivered":
        raise typer.Exit(console.FAILED)


@app.command()
@with_settings
def rotate(
    id: _Id,
    overlap: Annotated[str, typer.Option(help="How long the old secret signs too: 0, 1h, 7d.")] = "24h",
    as_json: _Json = False,
    *,
    client: ClientSettings,
) -> None:
    """A new secret, shown this once."""
    try:
        seconds = parse_duration(overlap)
    except ValueError as error:
        console.wrong_usage(f"--overlap: {error}")
    answer = _call(client, "POST", f"/{id}/rotate-secret", {"overlap_seconds": seconds})
    if as_json:
        console.write_json(answer)
        return
    console.write_lines([answer.get("secret") or answer["public_key"]])


@app.command()
@with_settings
def replay(
    id: _Id,
    since: Annotated[
        str | None, typer.Option(help="An event id, an RFC 3339 time, 10m/2h/7d ago, or earliest.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The same; default now.")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="REPLAY", help="End this replay, rpl_...")] = None,
    as_json: _Json = False,
    *,
    client: ClientSettings,
) -> None:
    """Deliver again what lies after --since; without it, list the replays."""
    if cancel is not None:
        _show(_call(client, "DELETE", f"/{id}/replay/{cancel}"), as_json)
    elif since is None:
        answer = _call(client, "GET", f"/{id}/replay")
        if as_json:
            console.write_json(answer)
            return
        table = _table("id", "status", "position", "until", "created")
        for it in answer["replays"]:
            table.add_row(it["id"], it["status"], it["position"], it["until"], it["createdAt"])
        console.out.print(table, markup=False)
    else:
        body = {"since": since} | ({"until": until} if until else {})
        _show(_call(client, "POST", f"/{id}/replay", body), as_json)


@app.command()
@with_settings
def enable(id: _Id, as_json: _Json = False, *, client: ClientSettings) -> None:
    """On again, from the position where it stopped."""
    _switched(_call(client, "POST", f"/{id}/enable"), "enabled", as_json)


@app.command()
@with_settings
def disable(id: _Id, as_json: _Json = False, *, client: ClientSettings) -> None:
    """Off; its events wait in the stream."""
    _switched(_call(client, "POST", f"/{id}/disable"), "disabled", as_json)


@app.command()
@with_settings
def rm(id: _Id, as_json: _Json = False, *, client: ClientSettings) -> None:
    """Remove an endpoint with its log and its retries."""
    _call(client, "DELETE", f"/{id}")
    _switched({"id": id, "removed": True}, "removed", as_json)


def _switched(answer: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        console.write_json(answer)
    else:
        console.note(f"{answer['id']} {what}")
