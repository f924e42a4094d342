"""``gateway doctor``: is everything fit for streams? Redis, this machine's limits, and the way to a gateway."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from gateway.backend.datadir import find_embedded
from gateway.backend.inspection import Finding, RedisProblem, inspect
from gateway.backend.masking import masked_url
from gateway.cli import console, probe
from gateway.cli.client import session
from gateway.cli.flags import Only, variable_in_force, with_settings
from gateway.settings import ClientSettings, Settings

app = typer.Typer()

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red"), "skipped": ("-", "dim")}
_FEW_FILES = 4096
_RESERVE = 100
"""Descriptors that are no subscriber's: Redis, log, webhooks."""


async def _redis(settings: Settings) -> tuple[str, list[Finding]]:
    url = settings.redis_url.get_secret_value() if settings.redis_url else find_embedded(settings.data_dir)
    if url is None:
        where = settings.data_dir.absolute()
        return "redis", [Finding("skipped", f"no --redis-url, and no embedded Valkey runs in {where}")]
    title = f"redis {masked_url(url)}"
    try:
        report = await inspect(url)
    except RedisProblem as error:
        return title, [Finding("error", str(error))]
    speed = Finding("warning" if report.round_trip > 0.05 else "ok", f"round trip {report.round_trip * 1000:.2f} ms")
    return title, [speed, *report.findings()]


def _limits() -> list[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"open files {soft} (at most {hard}): room for about {max(0, soft - _RESERVE)} subscribers a process"
    found = [
        Finding(
            "warning" if soft < _FEW_FILES else "ok", text + ("; raise it with ulimit -n" if soft < _FEW_FILES else "")
        )
    ]
    backlog = _number("/proc/sys/net/core/somaxconn")
    if backlog is not None:
        few = backlog < 1024
        hint = "; a crowd that reconnects at once may be refused: sysctl net.core.somaxconn=4096" if few else ""
        found.append(Finding("warning" if few else "ok", f"listen backlog {backlog}{hint}"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found.append(Finding("ok", f"{cores} CPU cores"))
    return found


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


async def _examine(settings: Settings, client: ClientSettings, asked: bool, idle: float) -> dict[str, list[Finding]]:
    title, findings = await _redis(settings)
    report = {title: findings, "limits": _limits()}
    async with session(client) as http:
        way = await probe.check(http, client.url, idle)
    if not asked and way[0].text.startswith("cannot reach"):
        way = [Finding("skipped", f"no gateway at {client.url}: give the URL that clients use")]
    report[f"way to {client.url}"] = way
    return report


def _show(report: dict[str, list[Finding]]) -> None:
    for title, findings in report.items():
        console.out.print(f"[bold]{title}[/]")
        for finding in findings:
            mark, style = _MARKS[finding.severity]
            console.out.print(f"  [{style}]{mark}[/]", end=" ")
            console.out.print(finding.text, markup=False)


@app.command()
@with_settings
def doctor(
    url: Annotated[str | None, typer.Argument(metavar="[URL]", help="The gateway, as its clients reach it.")] = None,
    idle: Annotated[
        float, typer.Option(min=0, help="Also stay on the idle stream for this many seconds, to see a heartbeat.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    *,
    settings: Annotated[Settings, Only("redis_url", "data_dir")],
    client: Annotated[ClientSettings, Only("token")],
) -> None:
    """Check Redis, limits and the way to a gateway. Publishes nothing. Exits with 1 when something is broken."""
    asked = url is not None or variable_in_force(ClientSettings, "url") is not None
    if url is not None:
        try:
            client = ClientSettings.model_validate({**client.model_dump(), "url": url})
        except ValidationError as error:
            console.wrong_usage(f"URL: {error.errors()[0]['msg'].removeprefix('Value error, ')}, not {url!r}")
    report = asyncio.run(_examine(settings, client, asked, idle))
    healthy = not any(finding.severity == "error" for findings in report.values() for finding in findings)
    if as_json:
        checks = [
            {"area": title, "severity": finding.severity, "text": finding.text}
            for title, findings in report.items()
            for finding in findings
        ]
        console.write_json({"healthy": healthy, "checks": checks})
    else:
        _show(report)
    if not healthy:
        raise typer.Exit(console.FAILED)
