"""The parts of the README that are made from the code. ``python -m tests.support.readme`` writes them anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BeforeValidator, SecretStr
from pydantic_settings import BaseSettings

from gateway.bridge.dialects import markdown_table
from gateway.bridge.endpoint import EndpointConfig
from gateway.bridge.metrics import BridgeMetrics
from gateway.cli.flags import default_text, flag_name, variables
from gateway.events.event import SKIP_REASONS
from gateway.settings import ClientSettings, Settings, parse_duration
from gateway.sse.ending import ENDINGS
from gateway.sse.parameters import PARAMETERS
from gateway.telemetry import Telemetry
from tests.support.child import ROOT

README = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _default(info: Any) -> str:
    is_duration = any(isinstance(part, BeforeValidator) and part.func is parse_duration for part in info.metadata)
    value = info.get_default(call_default_factory=True)
    if is_duration and value:
        return _duration(value).replace(" ", "")
    return "" if isinstance(value, SecretStr) else default_text(info)


def _settings(kind: type[BaseSettings]) -> list[list[str]]:
    return [
        [
            f"`{variables(kind, field)[0]}`",
            f"`{flag_name(field)}`",
            f"`{_default(info)}`" if _default(info) else "",
            info.description or "",
        ]
        for field, info in kind.model_fields.items()
    ]


def settings() -> str:
    """Every setting."""
    return _table(("variable", "flag", "default", "meaning"), _settings(Settings) + _settings(ClientSettings))


def parameters() -> str:
    """The query of ``GET /api/events``."""
    return _table(
        ("query", "meaning"),
        (
            [", ".join(f"`{name}`" for name in (parameter.name, *parameter.aliases)), parameter.meaning]
            for parameter in PARAMETERS
        ),
    )


def metric_name(metric: MetricWrapperBase) -> str:
    """As a scrape shows it."""
    return metric._name + ("_total" if metric._type == "counter" else "")


def _all_metrics() -> list[MetricWrapperBase]:
    registry = Telemetry().registry
    BridgeMetrics(registry)
    return [found for found in registry._collector_to_names if isinstance(found, MetricWrapperBase)]


def metrics() -> str:
    """What ``/metrics`` shows."""
    return _table(
        ("metric", "labels", "meaning"),
        (
            [f"`{metric_name(metric)}`", ", ".join(f"`{label}`" for label in metric._labelnames), metric._documentation]
            for metric in _all_metrics()
        ),
    )


def dialects() -> str:
    """What each kind of webhook receiver gets."""
    return markdown_table()


def endpoint() -> str:
    """The fields of a webhook endpoint."""
    return _table(
        ("field", "default", "meaning"),
        (
            [
                f"`{name}`",
                "required" if info.is_required() else f"`{default_text(info)}`" if default_text(info) else "",
                info.description or "",
            ]
            for name, info in EndpointConfig.model_fields.items()
        ),
    )


def endings() -> str:
    """Reasons in ``gateway.closing`` and in the metrics."""
    told = ", ".join(f"`{ending.reason}`" for ending in ENDINGS if ending.told)
    silent = ", ".join(f"`{ending.reason}`" for ending in ENDINGS if not ending.told)
    return f"Told to the client: {told}. Only in the metrics: {silent}.\n"


def skips() -> str:
    """Why an entry is passed over."""
    return ", ".join(f"`{reason}`" for reason in SKIP_REASONS) + ".\n"


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part for part in (settings, parameters, metrics, dialects, endpoint, endings, skips)
}


def renewed(text: str) -> str:
    """`text` with its generated parts made anew."""
    return _BLOCK.sub(lambda match: match[1] + PARTS[match[2]]() + match[3], text)


def snippet(name: str) -> str:
    """The code block that follows the comment ``<!-- run: NAME -->``."""
    match = re.search(rf"<!-- run: {re.escape(name)} -->\n```\w*\n(.*?)```", README.read_text(), re.DOTALL)
    assert match is not None, f"the README has no snippet {name}"
    return match[1]


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
    sys.stdout.write(f"{README.name} is up to date\n")
