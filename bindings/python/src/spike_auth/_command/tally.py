"""What came of the rows, and how fast."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from .._prototypes import Status

if TYPE_CHECKING:
    from .._errors import SpikeAuthError

# Rows of each status that the table names.
_NAMED_ROWS = 5
_RATE_SECONDS = 10.0
# So many users in a row that fail for one reason, which is not theirs, are reason to stop.
_MOST_IN_A_ROW = 100
# The next user may do better. Other failures would meet every user.
_OF_THE_USER = {Status.INVALID_USER_ID, Status.REFUSED, Status.FORBIDDEN, Status.TOKEN_REJECTED}


@dataclass
class Failures:
    """The rows that ended with one status."""

    reason: str
    was_sent: bool
    count: int = 0
    rows: list[int] = field(default_factory=list[int])
    """The first of them."""


class _Sample(NamedTuple):
    time: float
    ended: int
    portion: float | None


class Tally:
    """The counts of a command."""

    def __init__(self) -> None:
        self.ok = 0
        self.blank = 0
        self.done_before = 0
        self.failures: dict[Status, Failures] = {}
        self._in_a_row = 0
        self._last: Status | None = None
        self._begun = monotonic()
        self._samples = deque([_Sample(self._begun, 0, 0.0)])

    @property
    def failed(self) -> int:
        """The number of rows that failed."""
        return sum(each.count for each in self.failures.values())

    @property
    def rows(self) -> int:
        """The number of rows that nothing is left to do for."""
        return self.ok + self.failed + self.blank + self.done_before

    @property
    def seconds(self) -> float:
        """The time since the beginning."""
        return monotonic() - self._begun

    def add(self, row: int, error: SpikeAuthError | None) -> None:
        """Count a row that has ended."""
        if error is None:
            self.ok += 1
            self._in_a_row = 0
            return
        known = self.failures.setdefault(error.status, Failures(str(error), bool(error.attempts)))
        known.count += 1
        if error.attempts and not known.was_sent:  # what the service says explains more
            known.reason, known.was_sent = str(error), True
        if len(known.rows) < _NAMED_ROWS:
            known.rows.append(row)
        is_same = error.status is self._last or not self._in_a_row
        self._in_a_row = 0 if error.status in _OF_THE_USER else self._in_a_row + 1 if is_same else 1
        self._last = error.status

    def reason_to_stop(self) -> str:
        """Return why many users in a row have failed; empty if they have not."""
        if self._in_a_row < _MOST_IN_A_ROW or not self._last:
            return ""
        return f"{_MOST_IN_A_ROW} users in a row failed with {self._last.name}. {self.failures[self._last].reason}"

    def sample(self, portion: float | None) -> tuple[float, float | None]:
        """Return the rows that end in a second, and the seconds that are left, if known. For a call each second."""
        now = _Sample(monotonic(), self.ok + self.failed, portion)
        self._samples.append(now)
        while now.time - self._samples[0].time > _RATE_SECONDS and len(self._samples) > 2:
            self._samples.popleft()
        then = self._samples[0]
        seconds = max(now.time - then.time, 1e-6)
        rate = (now.ended - then.ended) / seconds
        if portion is None or then.portion is None or portion <= then.portion:
            return rate, None
        return rate, (1 - portion) * seconds / (portion - then.portion)
