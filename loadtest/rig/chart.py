"""Bar and line charts as SVG, legible on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH = 720
_COLORS = ("#2f81f7", "#d29922", "#3fb950", "#db61a2", "#8b949e", "#f0883e")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}"
    ".dim{fill:#6e7781;font-size:12px}.title{font-weight:600;font-size:15px}"
    "line,path.axis{stroke:#d0d7de}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}line{stroke:#3d444d}}"
)


def _svg(height: int, title: str, body: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        ' role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    return head + f'<text class="title" x="16" y="26">{escape(title)}</text>' + "".join(body) + "</svg>\n"


def _label(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.0f} k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def bars(title: str, unit: str, values: Mapping[str, float], *, log: bool = False) -> str:
    """One horizontal bar a value, with its number. `log` is for values that differ by orders of magnitude."""
    shown = {name: value for name, value in values.items() if math.isfinite(value)}
    left, right, row, top = 150, 110, 30, 60
    room = _WIDTH - left - right
    most = max([*shown.values(), 1e-12])
    least = min([value for value in shown.values() if value > 0] or [most])
    body = [f'<text class="dim" x="16" y="46">{escape(unit)}{" (log scale)" if log else ""}</text>']
    for i, (name, value) in enumerate(shown.items()):
        share = value / most
        if log and value > 0:
            # The smallest bar keeps a tenth of the width, so that it can be seen.
            share = 0.1 + 0.9 * math.log(value / least) / math.log(most / least) if most > least else 1.0
        y = top + i * row
        color = _COLORS[0] if name.startswith("gateway") else _COLORS[4]
        body.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        body.append(
            f'<rect x="{left}" y="{y + 2}" width="{max(1.0, share * room):.1f}" height="20" rx="2" fill="{color}"/>'
        )
        body.append(f'<text x="{left + max(1.0, share * room) + 8:.1f}" y="{y + 17}">{_label(value)}</text>')
    return _svg(top + row * len(shown) + 12, title, body)


def lines(title: str, x_title: str, y_title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One line a series, both axes logarithmic."""
    points = [(x, y) for line in series.values() for x, y in line if x > 0 and y > 0 and math.isfinite(y)]
    left, top, height, right = 64, 60, 340, 140
    bottom = height - 50
    if not points:
        return _svg(height, title, [])
    x_low, x_high = (math.log10(f(x for x, _ in points)) for f in (min, max))
    y_low, y_high = (math.log10(f(y for _, y in points)) for f in (min, max))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / (x_high - x_low or 1)
        up = (math.log10(y) - y_low) / (y_high - y_low or 1)
        return left + across * (_WIDTH - left - right), bottom - up * (bottom - top)

    body = [f'<text class="dim" x="16" y="46">{escape(y_title)}</text>']
    body.append(f'<text class="dim" x="{_WIDTH - right}" y="{height - 12}" text-anchor="end">{escape(x_title)}</text>')
    for power in range(math.floor(y_low), math.ceil(y_high) + 1):
        _, y = at(points[0][0], 10.0**power)
        if top - 8 <= y <= bottom + 8:
            body.append(f'<line x1="{left}" x2="{_WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            body.append(
                f'<text class="dim" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_label(10.0**power)}</text>'
            )
    for power in range(math.floor(x_low), math.ceil(x_high) + 1):
        x, _ = at(10.0**power, points[0][1])
        if left - 8 <= x <= _WIDTH - right + 8:
            body.append(
                f'<text class="dim" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{_label(10.0**power)}</text>'
            )
    taken: list[float] = []
    for i, (name, line) in enumerate(series.items()):
        color = _COLORS[i % len(_COLORS)]
        places = [at(x, y) for x, y in line if x > 0 and y > 0 and math.isfinite(y)]
        if not places:
            continue
        path = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        # Names at the ends of the lines, moved apart where two lines end together.
        name_y = places[-1][1] + 4
        while any(abs(name_y - other) < 15 for other in taken):
            name_y -= 15
        taken.append(name_y)
        body.append(f'<text x="{places[-1][0] + 10:.1f}" y="{name_y:.1f}" style="fill:{color}">{escape(name)}</text>')
    return _svg(height, title, body)
