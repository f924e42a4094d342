"""All tests, one after the other, each beside its peers; writes RESULTS.md with a table and a chart for each."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import loadtest
from loadtest.rig.arguments import parser_of, plain
from loadtest.rig.bench import Bench
from loadtest.rig.machine import facts
from loadtest.rig.report import Column, Report, as_markdown, targets_as_markdown
from loadtest.rig.stats import Row

ABOUT = "every test beside its peers; writes RESULTS.md and results/"
ORDER = ("fanout", "saturate", "latency", "idle", "connect", "filters", "replay", "storm", "slow", "verify", "startup")
COMMON = ("format", "workers", "serve_arg", "server_cores", "generator_cores", "rounds", "quiet", "no_gateway")


def names() -> list[str]:
    """All tests but this one: the known order first, then what has been added."""
    found = [module.name for module in pkgutil.iter_modules(loadtest.__path__) if not module.ispkg]
    others = sorted(set(found) - {*ORDER, "__main__", "all"})
    return [*ORDER, *others]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=names(), default=names(), metavar="NAME", help="these tests alone")
    parser.add_argument("--quick", action="store_true", help="small and short: to see that everything runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of RESULTS.md and results/")


def arguments_of(name: str, module: ModuleType, args: argparse.Namespace) -> argparse.Namespace:
    """The test's own defaults (short ones for ``--quick``); what every test has is as on our own command line."""
    chosen = parser_of(name, module).parse_args(getattr(module, "QUICK", ()) if args.quick else ())
    for key in COMMON:
        setattr(chosen, key, getattr(args, key))
    chosen.peer = args.peer or list(getattr(module, "PEERS", ()))
    return chosen


def save(report: Report, chosen: argparse.Namespace, folder: Path) -> None:
    """The report's numbers and its chart."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{report.name}.json").write_text(json.dumps(report.as_json(facts(), plain(chosen)), indent=2) + "\n")
    if report.chart is not None:
        (folder / f"{report.name}.svg").write_text(report.chart)


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    reports: list[Report] = []
    rows: dict[str, Row] = {}
    failed: list[str] = []
    started, machine, busy = datetime.now(UTC), facts(), list(bench.notes)
    for name in args.only:
        module = importlib.import_module(f"loadtest.{name}")
        chosen = arguments_of(name, module, args)
        bench.begin(chosen)
        clock = time.monotonic()
        try:
            report: Report = await module.run(bench, chosen)
        except RuntimeError as error:
            bench.console.print(f"{name} failed: {error}", style="red", highlight=False, markup=False)
            failed.append(f"{name} failed: {str(error).splitlines()[0]}")
        else:
            reports.append(report)
            rows[name] = {"seconds": time.monotonic() - clock, "passed": float(report.passed)}
            save(report, chosen, args.out / "results")
        # After each test, so that a run that is stopped keeps what it has.
        (args.out / "RESULTS.md").write_text(page(reports, [*busy, *failed], started, machine, args.quick))
    return Report(
        name="all",
        title=ABOUT,
        load=f"{len(reports)} tests.",
        columns=(Column("seconds", "took, s", 0), Column("passed", "passed", 0)),
        rows=rows,
        targets=[target for report in reports for target in report.targets],
        notes=[*busy, *failed],
        passed=not failed and all(report.passed for report in reports),
    )


def page(reports: list[Report], notes: list[str], started: datetime, machine: dict[str, str], quick: bool) -> str:
    """RESULTS.md."""
    command = "python -m loadtest all" + (" --quick" if quick else "")
    lines = [
        "# Load test results",
        "",
        f"Written by `{command}` on {started:%Y-%m-%d %H:%M} UTC. All servers of a table ran one after the other in",
        "the same run, pinned to their own core, with the load generator and Redis on another. Ratios within a table",
        "mean something; absolute numbers belong to this machine, and to how busy it was.",
        "",
        f"{', '.join(f'{key} {value}' for key, value in machine.items())}.",
        "",
        "## Targets",
        "",
        targets_as_markdown(reports),
        *(f"- {line}" for line in notes),
        "",
    ]
    for report in reports:
        chart = f"results/{report.name}.svg" if report.chart is not None else None
        lines.append(as_markdown(report, chart))
    return "\n".join(lines).rstrip() + "\n"
