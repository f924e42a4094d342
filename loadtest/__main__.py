"""``python -m loadtest NAME``: runs one load test, or all of them."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import pkgutil
import signal
import sys
from types import ModuleType

import uvloop
from rich.console import Console

import loadtest
from loadtest import peers
from loadtest.rig.arguments import parser_of, plain
from loadtest.rig.bench import Bench
from loadtest.rig.machine import facts
from loadtest.rig.report import Report, show


def tests() -> list[str]:
    """Every module of the package that is a test, by name."""
    return [
        module.name
        for module in pkgutil.iter_modules(loadtest.__path__)
        if not module.ispkg and module.name != "__main__"
    ]


def usage(console: Console) -> None:
    console.print(
        "usage: python -m loadtest NAME [--peer PEER]... [--json FILE] [--plot FILE]   (NAME --help: its knobs)\n"
    )
    for name in tests():
        console.print(f"  [bold]{name:10}[/] {importlib.import_module(f'loadtest.{name}').ABOUT}", highlight=False)
    console.print("\npeers:")
    for name in peers.names():
        server = peers.load(name)
        missing = server.missing()
        console.print(f"  [bold]{name:10}[/] {server.about}{f' [red]({missing})' if missing else ''}", highlight=False)


async def _run(module: ModuleType, args: argparse.Namespace, console: Console) -> Report:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Bench(args, console) as bench:
        report: Report = await module.run(bench, args)
    return report


def save(report: Report, args: argparse.Namespace) -> None:
    """Write what ``--json`` and ``--plot`` ask for."""
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report.as_json(facts(), plain(args)), indent=2) + "\n")
    if args.plot is not None and report.chart is not None:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        args.plot.write_text(report.chart)


def main(arguments: list[str]) -> int:
    console = Console(stderr=True)
    if not arguments or arguments[0] in ("-h", "--help"):
        usage(console)
        return 0 if arguments else 2
    name = arguments[0]
    if name not in tests():
        console.print(f"no such test: {name!r} (there are: {', '.join(tests())})", highlight=False)
        return 2
    module = importlib.import_module(f"loadtest.{name}")
    args = parser_of(name, module).parse_args(arguments[1:])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(_run(module, args, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped; all servers are ended", highlight=False)
        return 1
    except (RuntimeError, OSError) as error:
        console.print(f"failed: {error or type(error).__name__}", style="red", highlight=False, markup=False)
        return 1
    if not args.quiet:
        # A pipe has no width of its own.
        show(report, Console(width=None if sys.stdout.isatty() else 120))
    save(report, args)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
