"""``gateway config``: the settings in force, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings
from rich.table import Table

from gateway.backend.masking import masked_url
from gateway.cli import console
from gateway.cli.flags import flag_name, unknown_variables, value_text, variable_in_force, variables, with_settings
from gateway.settings import ClientSettings, Settings

app = typer.Typer()


class Row(NamedTuple):
    """One setting: its variable, its value with secrets masked, and where that came from."""

    name: str
    variable: str
    value: str
    origin: str


def _masked(value: object) -> str:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return masked_url(text) if "://" in text else "***"
    return value_text(value)


def rows(settings: BaseSettings, given: set[str]) -> Iterator[Row]:
    """Every field of `settings`; `given` are those that came as flags."""
    kind = type(settings)
    for field in kind.model_fields:
        variable = variable_in_force(kind, field)
        origin = flag_name(field) if field in given else variable or "default"
        yield Row(field, variables(kind, field)[0], _masked(getattr(settings, field)), origin)


@app.command()
@with_settings
def config(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    *,
    settings: Settings,
    client: ClientSettings,
) -> None:
    """Print every setting: its value, secrets masked, and whether a flag, a variable or the default gave it."""
    given = {name for name, value in ctx.params.items() if value is not None}
    found = [*rows(settings, given), *rows(client, given)]
    for text in unknown_variables(Settings, ClientSettings):
        console.warn(text)
    if as_json:
        values = {**settings.model_dump(mode="json"), **client.model_dump(mode="json")}
        secret = {name for kind in (settings, client) for name, value in kind if isinstance(value, SecretStr)}
        typed = {row.name: row.value if row.name in secret else values[row.name] for row in found}
        console.write_json(
            {row.name: {"value": typed[row.name], "variable": row.variable, "from": row.origin} for row in found}
        )
    elif console.out.is_terminal:
        table = Table("setting", "value", "from", box=None, header_style="bold")
        for row in found:
            table.add_row(row.variable, row.value or "[dim]none[/]", "" if row.origin == "default" else row.origin)
        console.out.print(table)
    else:
        console.write_lines(f"{row.variable}={row.value}\t# {row.origin}" for row in found)
