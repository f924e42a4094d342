"""What a load test found: a table, ratios, targets, a chart; on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Column as TableColumn
from rich.table import Table

from loadtest.rig.stats import Row


@dataclass(frozen=True)
class Column:
    key: str
    head: str
    """With the unit."""
    digits: int = 1


@dataclass(frozen=True)
class Target:
    """A line of the table of targets: what was asked for and what came out. `met` is None when it was not measured."""

    letter: str
    text: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Report:
    name: str
    title: str
    load: str
    """The load in one sentence."""
    columns: Sequence[Column]
    rows: Mapping[str, Row]
    """By server, or by server and point."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()
    chart: str | None = None
    """SVG."""
    passed: bool = True
    """False when something that must hold did not: the command then ends with 1."""

    def as_json(self, facts: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, Any]:
        found = {key: value for key, value in asdict(self).items() if key not in ("columns", "chart")}
        return {"machine": dict(facts), "arguments": dict(arguments), **_without_nan(found)}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for what could not be measured."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float | None, digits: int = 1) -> str:
    """``1,234.5``; a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.{digits}f}"


def ratio_target(
    letter: str, text: str, ratios: Mapping[str, float], limits: Mapping[str, tuple[str, float]]
) -> Target:
    """A target over several ratios: `limits` is ratio -> (``<=`` or ``>=``, limit). Those not measured do not count."""
    found = {key: ratios[key] for key in limits if key in ratios}
    measured = ", ".join(f"{key}: {value:.2f}" for key, value in found.items())
    holds = [
        value <= limits[key][1] if limits[key][0] == "<=" else value >= limits[key][1] for key, value in found.items()
    ]
    return Target(letter, text, measured or "not measured", all(holds) if len(found) == len(limits) else None)


def show(report: Report, console: Console) -> None:
    console.print(f"[bold]{report.title}[/]\n{report.load}", highlight=False, soft_wrap=True)
    grid = [["server", *(column.head for column in report.columns)]]
    for name, row in report.rows.items():
        grid.append([name, *(number(row.get(column.key), column.digits) for column in report.columns)])
    # The longer side goes down the page, so that a terminal of 80 columns shows every digit.
    first, *lines = (
        grid if len(report.rows) > len(report.columns) else [list(cells) for cells in zip(*grid, strict=True)]
    )
    table = Table(first[0], *(TableColumn(head, justify="right") for head in first[1:]))
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for key, value in report.ratios.items():
        console.print(f"  {key}: [bold]{value:.2f}", highlight=False, soft_wrap=True)
    for target in report.targets:
        console.print(
            f"  target {target.letter}: {target.text} -> {target.measured} [bold]{_verdict(target)}",
            highlight=False,
            soft_wrap=True,
        )
    for note in report.notes:
        console.print(f"  [dim]{note}", highlight=False, soft_wrap=True)


def _verdict(target: Target) -> str:
    return {True: "met", False: "missed", None: "open"}[target.met]


def as_markdown(report: Report, chart: str | None = None) -> str:
    """One section of RESULTS.md; `chart` is the path of its picture."""
    lines = [f"## {report.name}: {report.title}", "", report.load, ""]
    lines.append("| server | " + " | ".join(column.head for column in report.columns) + " |")
    lines.append("|---|" + "---:|" * len(report.columns))
    for name, row in report.rows.items():
        cells = (number(row.get(column.key), column.digits) for column in report.columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    if report.ratios:
        lines += [*(f"- {key}: **{value:.2f}**" for key, value in report.ratios.items()), ""]
    if report.notes:
        lines += [*(f"- {note}" for note in report.notes), ""]
    if chart:
        lines += [f"![{report.title}]({chart})", ""]
    return "\n".join(lines)


def targets_as_markdown(reports: Sequence[Report]) -> str:
    """All targets of all reports in one table."""
    lines = ["| # | target | measured | |", "|---|---|---|---|"]
    for target in sorted((t for report in reports for t in report.targets), key=lambda t: t.letter):
        lines.append(f"| {target.letter} | {target.text} | {target.measured} | {_verdict(target)} |")
    return "\n".join(lines) + "\n"
