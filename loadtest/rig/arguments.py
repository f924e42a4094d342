"""The command line of a test: its own knobs, and those that every test has."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

from loadtest import peers
from loadtest.rig.machine import parse_cores, spell_cores, split_cores


def parser_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """The parser of the test `module`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m loadtest {name}",
        description=module.ABOUT,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    module.add_arguments(parser)
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    server, generator = split_cores()
    group = parser.add_argument_group("every test")
    group.add_argument("--peer", action="append", default=[], choices=peers.names(), help="measured too, repeatable")
    group.add_argument("--no-gateway", action="store_true", help="measure the peers alone")
    group.add_argument("--rounds", type=int, default=1, help="repeat all servers in turn; medians are reported")
    group.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    group.add_argument("--plot", type=Path, metavar="FILE", help="write a chart (SVG)")
    group.add_argument("--format", default="raw", help="format= of the gateway; raw is what the peers send")
    group.add_argument("--workers", type=int, default=1, help="processes of the gateway")
    group.add_argument("--serve-arg", action="append", default=[], metavar="ARG", help="passed on to gateway serve")
    group.add_argument("--server-cores", type=parse_cores, default=spell_cores(server), metavar="LIST")
    group.add_argument("--generator-cores", type=parse_cores, default=spell_cores(generator), metavar="LIST")
    group.add_argument("--quiet", action="store_true", help="no progress bar, no table")


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments as JSON can hold them; files are left out."""
    found = {key: value for key, value in vars(args).items() if key != "quiet" and not isinstance(value, Path)}
    return {key: sorted(value) if isinstance(value, frozenset) else value for key, value in found.items()}
