"""What a person or a program sees of a command: a bar, or a JSON line a second."""

from __future__ import annotations

import json
import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .tally import Tally

_SECONDS = 1.0


class Display(Protocol):
    """Shows a command to its user."""

    def show(self, tally: Tally, portion: float | None, paused_for: float) -> None:
        """Show where it stands, if it is time. `portion` of the input has been read, from 0 to 1."""

    def end(self, tally: Tally, how: str) -> None:
        """Show the table of statuses."""


def display() -> Display:
    """Return a bar for a terminal, if rich is there; else lines."""
    if sys.stdout is not None and sys.stdout.isatty():
        try:
            from .bar import Bar  # noqa: PLC0415  rich is an extra
        except ImportError:
            pass
        else:
            return Bar()
    return _Lines()


class Clock:
    """Tells when it is time to show."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, monotonic() + seconds

    def is_due(self) -> bool:
        """Return whether so many seconds have passed since it was last due."""
        now = monotonic()
        if now < self._next:
            return False
        self._next = max(self._next + self._seconds, now)
        return True


class _Lines:
    """A JSON line a second on stdout. The last one has the statuses."""

    def __init__(self) -> None:
        self._clock = Clock(_SECONDS)

    def show(self, tally: Tally, portion: float | None, paused_for: float) -> None:
        if not self._clock.is_due():
            return
        rate, left = tally.sample(portion)
        self._print(
            **_counts(tally),
            rate=round(rate, 1),
            percent=None if portion is None else round(100 * portion, 1),
            seconds_left=None if left is None else round(left),
            paused_for=round(paused_for, 1),
        )

    def end(self, tally: Tally, how: str) -> None:
        statuses = {
            status.name: {"count": each.count, "first_rows": each.rows, "reason": each.reason}
            for status, each in tally.failures.items()
        }
        self._print(end=how, **_counts(tally), statuses=statuses)

    @staticmethod
    def _print(**fields: Any) -> None:
        print(json.dumps(fields), flush=True)  # noqa: T201


def say(text: str) -> None:
    """Print a message to stderr."""
    print(f"spike_auth: {text}", file=sys.stderr, flush=True)  # noqa: T201


def silence_stdout() -> None:
    """Let stdout lead nowhere, so that the interpreter does not try at exit to write the rest again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _counts(tally: Tally) -> dict[str, Any]:
    return {
        "seconds": round(tally.seconds, 1),
        "ok": tally.ok,
        "failed": tally.failed,
        "blank": tally.blank,
        "done_before": tally.done_before,
    }
