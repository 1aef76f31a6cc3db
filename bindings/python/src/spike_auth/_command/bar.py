"""A progress bar and a table, with rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from .display import Clock

if TYPE_CHECKING:
    from .tally import Tally


class Bar:
    """Draws itself when it is shown, without a thread."""

    def __init__(self) -> None:
        self._console = Console()
        self._clock = Clock(0.25)
        columns = (BarColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=self._console, auto_refresh=False, transient=True)
        self._task = self._progress.add_task("begins", total=None)
        self._progress.start()

    def show(self, tally: Tally, portion: float | None, paused_for: float) -> None:
        """Draw the bar, four times a second."""
        if not self._clock.is_due():
            return
        rate, left = tally.sample(portion)
        total = None if portion is None else 1.0
        parts = [f"{tally.ok:,} ok", f"{tally.failed:,} failed", f"{rate:,.0f}/s"]
        if paused_for:
            parts.append(f"paused for {_time(paused_for)}: the service asks for it")
        elif left is not None:
            parts.append(f"{_time(left)} left")
        self._progress.update(self._task, total=total, completed=portion or 0, description="  ".join(parts))
        self._progress.refresh()

    def end(self, tally: Tally, how: str) -> None:
        """Replace the bar by the table."""
        self._progress.stop()
        table = Table(box=box.SIMPLE, title=f"{how}, after {_time(tally.seconds)}", title_justify="left")
        table.add_column("status")
        table.add_column("rows", justify="right")
        table.add_column("first of them")
        table.add_column("reason", overflow="fold")
        for name, count in [("OK", tally.ok), ("done before", tally.done_before), ("blank", tally.blank)]:
            if count or name == "OK":
                table.add_row(name, f"{count:,}")
        for status, each in tally.failures.items():
            rows = ", ".join(map(str, each.rows)) + (", ..." if each.count > len(each.rows) else "")
            table.add_row(status.name, f"{each.count:,}", rows, each.reason)
        self._console.print(table, markup=False, highlight=False)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
