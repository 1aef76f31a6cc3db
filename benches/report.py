"""The figures of a run as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import median

OURS = "spike_auth"


@dataclass
class Row:
    """One thing that was measured; `values` has one figure per round."""

    what: str
    values: Sequence[float]
    more: dict[str, str] = field(default_factory=dict)
    kind: str = "peer"  # or "ours", "limit", "note": its colour in the picture, which omits notes


@dataclass
class Group:
    """Rows to compare. Ratios are taken round by round, against the row named `base`."""

    title: str
    unit: str
    base: str
    rows: list[Row]
    note: str = ""

    def row(self, what: str) -> Row:
        return next(row for row in self.rows if row.what == what)

    def ratio(self, what: str, to: str | None = None) -> tuple[float, float, float]:
        """Median, least and greatest of the rounds' ratios."""
        ratios = [a / b for a, b in zip(self.row(what).values, self.row(to or self.base).values, strict=True)]
        return median(ratios), min(ratios), max(ratios)


@dataclass
class Target:
    """What a figure should reach, and what was measured."""

    what: str
    reach: str
    measured: tuple[float, float, float]
    reached: bool


@dataclass
class Report:
    machine: str
    groups: list[Group]
    targets: list[Target]
    missing: list[str]

    def markdown(self) -> str:
        parts = ["# Benchmark results", f"Machine: {self.machine}"]
        parts.append(
            "Every figure is the median over the rounds, with the least and the greatest in brackets. Within a round "
            "all rows took turns, and a ratio is the median of the rounds' ratios. benches/README.md "
            "describes each row."
        )
        if self.targets:
            parts += ["## Targets", table(["what", "reach", "measured", "reached"], [
                [t.what, t.reach, span(t.measured, 2), "yes" if t.reached else "no"] for t in self.targets
            ])]
        for group in self.groups:
            parts += [f"## {group.title}", group.note, self.group_table(group)]
        if self.missing:
            parts += ["## Missing", "\n".join(f"- {item}" for item in self.missing)]
        return "\n\n".join(part for part in parts if part) + "\n"

    @staticmethod
    def group_table(group: Group) -> str:
        extra = list(dict.fromkeys(name for row in group.rows for name in row.more))
        heads = ["what", group.unit, f"x {group.base}", *extra]
        lines = []
        for row in group.rows:
            absolute = span((median(row.values), min(row.values), max(row.values)))
            lines.append([row.what, absolute, span(group.ratio(row.what), 2),
                          *(row.more.get(name, "") for name in extra)])
        return table(heads, lines)


def span(figures: tuple[float, float, float], digits: int | None = None) -> str:
    middle, least, greatest = figures
    if digits is None:
        digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    if least == greatest:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} ({least:.{digits}f}-{greatest:.{digits}f})"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]

    def one(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([one(heads), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(one, lines)])


# The picture: one block of bars per group, each with its own scale from 0.

WIDTH, LABEL, VALUE, BAR, GAP = 960, 330, 190, 16, 6
COLOURS = {"ours": "#2563a8", "limit": "#4a9a5b", "peer": "#a9adb3"}


def svg(report: Report) -> str:
    parts: list[str] = []
    y = 34
    parts.append(text(16, y, "spike_auth against its peers: shorter is better", size=17, bold=True))
    for group in report.groups:
        y += 38
        parts.append(text(16, y, f"{group.title} ({group.unit}; and as a multiple of {group.base})", bold=True))
        y += 10
        rows = [row for row in group.rows if row.kind != "note"]
        longest = max(median(row.values) for row in rows)
        for row in rows:
            figure = median(row.values)
            length = max(1.0, (WIDTH - LABEL - VALUE) * figure / longest)
            parts.append(text(LABEL - 8, y + BAR - 4, row.what, anchor="end", bold=row.kind == "ours"))
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[row.kind]}"/>')
            label = f"{span((figure, figure, figure))}  ({group.ratio(row.what)[0]:.2f} x)"
            parts.append(text(LABEL + length + 6, y + BAR - 4, label))
            y += BAR + GAP
    y += 24
    parts.append(text(16, y, report.machine.split(";")[0], size=11))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 16}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
