"""What can be known of the manifests without a cluster: names that exist, times that fit together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.flags import variables
from gateway.settings import ClientSettings, Settings, parse_duration
from tests.deploy.proxies import DEPLOY
from tests.support.child import ROOT
from tests.support.readme import _all_metrics, metric_name

SETTINGS = {
    name for kind in (Settings, ClientSettings) for field in kind.model_fields for name in variables(kind, field)
}
REQUESTS = 5
"""Seconds that open requests get after the drain (`gateway.server`)."""


def _documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def _container() -> dict[str, Any]:
    deployment = next(d for d in _documents("kubernetes/gateway.yaml") if d["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def _seconds(text: str) -> float:
    return float(parse_duration(text))


@pytest.mark.parametrize("path", sorted(p for p in DEPLOY.rglob("*") if p.is_file()), ids=lambda p: p.name)
def test_only_settings_that_exist_are_named(path: Path) -> None:
    named = set(re.findall(r"\bGATEWAY_[A-Z0-9_]+", path.read_text()))
    assert named <= SETTINGS


def test_metrics_that_are_watched_exist() -> None:
    exposed: set[str] = set()
    for metric in _all_metrics():
        exposed.add(metric_name(metric))
        if metric._type == "histogram":
            exposed |= {f"{metric._name}_{part}" for part in ("bucket", "sum", "count")}
    for name in ("grafana-dashboard.json", "prometheus-alerts.yaml"):
        watched = set(re.findall(r"\bgateway_[a-z_]+", (DEPLOY / name).read_text()))
        assert watched, name
        assert watched <= exposed, name


def test_every_metric_has_a_panel() -> None:
    text = (DEPLOY / "grafana-dashboard.json").read_text()
    assert [metric_name(metric) for metric in _all_metrics() if metric_name(metric) not in text] == []


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"])
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_kubernetes_waits_for_the_drain() -> None:
    pod = _container()
    container = pod["containers"][0]
    drain = _seconds({e["name"]: e.get("value", "") for e in container["env"]}["GATEWAY_DRAIN_SECONDS"])
    before = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > before + drain + REQUESTS
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_compose_waits_for_the_drain() -> None:
    service = _documents("compose.yaml")[0]["services"]["gateway"]
    drain = _seconds(service["environment"]["GATEWAY_DRAIN_SECONDS"])
    assert _seconds(service["stop_grace_period"]) > drain + REQUESTS


def test_systemd_waits_for_the_drain() -> None:
    unit = (DEPLOY / "gateway.service").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None
    assert float(stop[1]) > Settings.model_fields["drain_seconds"].default + REQUESTS


def test_selectors_fit_labels() -> None:
    documents = _documents("kubernetes/gateway.yaml") + _documents("kubernetes/networkpolicy.yaml")
    by_kind = {document["kind"]: document["spec"] for document in documents}
    labels = by_kind["Deployment"]["template"]["metadata"]["labels"]
    assert by_kind["Deployment"]["selector"]["matchLabels"] == labels
    assert by_kind["Service"]["selector"] == labels
    assert by_kind["PodDisruptionBudget"]["selector"]["matchLabels"] == labels
    assert by_kind["NetworkPolicy"]["podSelector"]["matchLabels"] == labels


def test_the_image_has_what_the_build_needs() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
        assert name.partition("/")[0] in kept, f"{name} is left out by .dockerignore"
