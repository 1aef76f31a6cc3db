"""Ctrl-C and SIGTERM as a wish to stop."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Stopped(BaseException):
    """A signal came during a read. Not an Exception, so that nothing takes it for an error of the file."""


class Signals:
    """Which signal has asked for a stop. A second Ctrl-C is a `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._reads = False

    @contextmanager
    def handled(self) -> Generator[None, None, None]:
        """Handle the signals. One that was ignored, as nohup and a shell's & do, stays ignored."""
        numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def end_reads(self) -> Generator[None, None, None]:
        """Raise `Stopped` in the block, which would otherwise wait on for a pipe or a terminal."""
        self._reads = True
        try:
            if self.received is not None:
                raise Stopped
            yield
        finally:
            self._reads = False

    def _receive(self, number: int, _: Any) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        if self._reads:
            raise Stopped
