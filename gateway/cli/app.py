"""The command ``gateway``: a table of commands, each a module that is imported when it is run.

A new command is a new file with an ``app`` (a `typer.Typer` of one command, or of several), and one line here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from gateway import __version__

# Imported on use: `gateway publish` in a script must not wait for the web server's modules.
COMMANDS: Mapping[str, str] = {
    "serve": "gateway.cli.serve",
    "publish": "gateway.cli.publish",
    "tail": "gateway.cli.tail",
    "keys": "gateway.cli.keys",
    "bridge": "gateway.cli.bridge",
    "webhooks": "gateway.cli.webhooks",
    "listen": "gateway.cli.listen",
    "config": "gateway.cli.config",
    "doctor": "gateway.cli.doctor",
}


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        path = COMMANDS.get(cmd_name)
        if path is None:
            return None
        command = typer.main.get_command(import_module(path).app)
        command.name = cmd_name
        return command


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"gateway {__version__}\n")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def gateway(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Redis Streams as Server-Sent Events and signed webhooks.

    Begin with: gateway serve --demo
    """
