"""Quantiles and medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

Row = dict[str, float]


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of `values` does not exceed; nan of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))]


def medians(rows: Iterable[Mapping[str, float]]) -> Row:
    """The median of each key over several rounds of the same measurement."""
    found = list(rows)
    return {key: statistics.median(row[key] for row in found if key in row) for key in found[0]} if found else {}


def ratio(rows: Mapping[str, Row], key: str, over: str, under: str) -> float | None:
    """rows[over][key] / rows[under][key], or None when one of the two was not measured."""
    top, bottom = rows.get(over, {}).get(key), rows.get(under, {}).get(key)
    return top / bottom if top is not None and bottom else None


def gateway_over_peers(rows: Mapping[str, Row], key: str, what: str) -> dict[str, float]:
    """``gateway / <peer>, <what>`` -> ratio, for each peer that was measured in the same run."""
    found = {f"gateway / {peer}, {what}": ratio(rows, key, "gateway", peer) for peer in rows if peer != "gateway"}
    return {name: value for name, value in found.items() if value is not None}


def unharmed(rows: Mapping[str, Row], *keys: str) -> bool:
    """Whether the gateway's rows have 0 under all `keys`. What a peer loses is its own affair."""
    return all(row.get(key, 0) == 0 for name, row in rows.items() if name.startswith("gateway") for key in keys)
