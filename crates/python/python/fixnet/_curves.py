"""Curves of a run as SVG, for notebooks."""

from __future__ import annotations

import html
from typing import Any, Sequence

#: Colours that readers with colour blindness tell apart, on light and dark pages.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 300, 180, 46, 30, 22


def escaped(text: str) -> str:
    """Returns a text that stands as it is in HTML."""
    return html.escape(text)


class Svg:
    """A drawing that a notebook shows."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Svg({len(self.text)} characters)"


def draw(metrics: Sequence[dict[str, Any]]) -> str:
    """Draws each metric over the epochs, the parts of the data in one panel."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in metrics:
        for name, value in row.items():
            part, _, metric = name.partition("_")
            if part in ("train", "validation", "test") and isinstance(value, (int, float)):
                panels.setdefault(metric, {}).setdefault(part, []).append((float(row["epoch"]), float(value)))
    if not panels:
        return "<p>No epoch is over.</p>"
    return "".join(_panel(name, lines) for name, lines in panels.items())


def _panel(name: str, lines: dict[str, list[tuple[float, float]]]) -> str:
    points = [point for line in lines.values() for point in line]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(y for _, y in points), max(y for _, y in points)
    span_x, span_y = high_x - low_x or 1.0, high_y - low_y or 1.0
    width, height = _WIDTH - _LEFT - 10, _HEIGHT - _BOTTOM - _TOP

    def place(x: float, y: float) -> str:
        return f"{_LEFT + (x - low_x) / span_x * width:.1f},{_TOP + (high_y - y) / span_y * height:.1f}"

    parts = [
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{escaped(name)} over the epochs"'
        ' style="font: 11px sans-serif" fill="currentColor">',
        f'<text x="{_LEFT}" y="14" font-weight="bold">{escaped(name)}</text>',
        f'<path d="M{_LEFT},{_TOP}v{height}h{width}" fill="none" stroke="currentColor" opacity="0.4"/>',
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{high_y:.3g}</text>',
        f'<text x="{_LEFT - 4}" y="{_TOP + height}" text-anchor="end">{low_y:.3g}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 14}">{low_x:.0f}</text>',
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 14}" text-anchor="end">epoch {high_x:.0f}</text>',
    ]
    for i, (part, line) in enumerate(lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x, y = place(*line[-1]).split(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - 10 - 62 * i}" y="14" text-anchor="end" fill="{colour}">{part}</text>')
    return "".join(parts) + "</svg>"
