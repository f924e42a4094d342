"""What commands say: results on stdout, everything else on stderr; colours on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NoReturn

import orjson
import typer
from rich.console import Console

FAILED = 1
WRONG_USAGE = 2

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A remark that is no result and no problem."""
    err.print(text, style="dim", markup=False)


def warn(text: str) -> None:
    """A problem that the command can live with."""
    err.print(f"[bold yellow]warning:[/] {_plain(text)}")


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Say what went wrong, in one line, and exit with `code`."""
    err.print(f"[bold red]error:[/] {_plain(text)}")
    raise typer.Exit(code)


def wrong_usage(text: str) -> NoReturn:
    """Say what is wrong with the arguments, and exit with 2."""
    fail(text, WRONG_USAGE)


def write_lines(lines: Iterable[str]) -> None:
    """Results for programs, as they are, at once. UTF-8 whatever the locale: JSON is."""
    sys.stdout.flush()
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
    sys.stdout.buffer.flush()


def write_json(value: object) -> None:
    """One JSON document on stdout, on one line."""
    write_lines([orjson.dumps(value).decode()])


def silence_stdout() -> None:
    """After the reader of our pipe has gone: keep Python from complaining when it flushes stdout at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
