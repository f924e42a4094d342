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


def bars(title: str, unit: str, values: Mapping[str, float]) -> str:
    """One horizontal bar a value, with its number. What is not finite is left out."""
    shown = {name: value for name, value in values.items() if math.isfinite(value)}
    left, right, row, top = 24 + 7 * max([len(name) for name in shown] or [0]), 110, 30, 60
    most = max([*shown.values(), 1e-12])
    body = [f'<text class="dim" x="16" y="46">{escape(unit)}</text>']
    for i, (name, value) in enumerate(shown.items()):
        y, width = top + i * row, max(1.0, value / most * (_WIDTH - left - right))
        color = _COLORS[0] if name.startswith("gateway") else _COLORS[4]
        body.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        body.append(f'<rect x="{left}" y="{y + 2}" width="{width:.1f}" height="20" rx="2" fill="{color}"/>')
        body.append(f'<text x="{left + width + 8:.1f}" y="{y + 17}">{_label(value)}</text>')
    return _svg(top + row * len(shown) + 12, title, body)


Point = tuple[float, float]


class _Plane:
    """Both axes logarithmic, as wide as the points need."""

    left, right, top, bottom = 64, _WIDTH - 140, 60, 290

    def __init__(self, points: Sequence[Point]) -> None:
        self._x = [min(x for x, _ in points), max(x for x, _ in points)]
        self._y = [min(y for _, y in points), max(y for _, y in points)]

    def x(self, value: float) -> float:
        return self.left + _share(value, self._x) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - _share(value, self._y) * (self.bottom - self.top)

    def axes(self) -> list[str]:
        drawn = []
        for value in _ticks(*self._y):
            y = self.y(value)
            drawn.append(f'<line x1="{self.left}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            drawn.append(
                f'<text class="dim" x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{_label(value)}</text>'
            )
        for value in _ticks(*self._x):
            middle = f'x="{self.x(value):.1f}" y="{self.bottom + 18}" text-anchor="middle"'
            drawn.append(f'<text class="dim" {middle}>{_label(value)}</text>')
        return drawn


def _share(value: float, ends: Sequence[float]) -> float:
    low, high = ends
    return math.log(value / low) / math.log(high / low) if high > low else 0.5


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`; with 2 and 5 times them when that makes fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high * 1.001]
        if len(found) > 2:
            break
    return found


def lines(title: str, x_title: str, y_title: str, series: Mapping[str, Sequence[Point]]) -> str:
    """One line a series, both axes logarithmic; points that cannot be drawn there are left out."""
    drawable = {
        name: [(x, y) for x, y in line if x > 0 and y > 0 and math.isfinite(y)] for name, line in series.items()
    }
    body = [f'<text class="dim" x="16" y="46">{escape(y_title)}</text>']
    body.append(f'<text class="dim" x="{_Plane.right}" y="328" text-anchor="end">{escape(x_title)}</text>')
    points = [point for line in drawable.values() for point in line]
    plane = _Plane(points) if points else None
    names: list[float] = []
    if plane is not None:
        body += plane.axes()
        for i, (name, line) in enumerate((name, line) for name, line in drawable.items() if line):
            color = _COLORS[i % len(_COLORS)]
            places = [(plane.x(x), plane.y(y)) for x, y in line]
            path = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in places)
            body.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
            # The name at the end of its line, moved up where two lines end together.
            y = places[-1][1] + 4
            while any(abs(y - other) < 15 for other in names):
                y -= 15
            names.append(y)
            body.append(f'<text x="{places[-1][0] + 10:.1f}" y="{y:.1f}" style="fill:{color}">{escape(name)}</text>')
    return _svg(340, title, body)
