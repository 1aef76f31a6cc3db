"""Lets Ctrl-C end a call that waits.

Python runs the handler of a signal in the main thread, between two of its own steps, and a call into the library is
one step. So the main thread hands such a call to a helper thread, and waits for it where a signal can end the wait.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, TypeVar

from ._errors import Cancelled

_T = TypeVar("_T")

# What a thread does to itself must reach that thread; all other signals are for the main thread.
_OWN = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


class _Helper:
    """A thread that runs one call after the other, and is kept for the next.

    It is none of `threading`'s: to start one of those is to wait, and a handler that raises there leaves it half made.
    """

    def __init__(self) -> None:
        self.jobs: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]] | None] = SimpleQueue()
        self.native_id = 0

    def run(self, ready: SimpleQueue[Any]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _OWN)
        self.native_id = threading.get_native_id()
        # By itself: whatever befalls the one who asked for it, it is not lost.
        _idle.append(self)
        ready.put(None)
        del ready
        while (job := self.jobs.get()) is not None:
            work, done = job
            try:
                result, error = work(), None
            except BaseException as caught:  # noqa: BLE001  raised again by the one who waits
                result, error = None, caught
            del job, work  # with the client's handle
            is_spare = bool(_idle)
            if not is_spare:
                _idle.append(self)  # first of all, or the next call would find none
            done.put((result, error))
            del done, result, error
            if is_spare:
                return


_idle: list[_Helper] = []
# Where the main thread waits; more than one if a handler calls, too.
_waited_for: list[SimpleQueue[Any]] = []


def _end_idle() -> None:
    # Fork in a process with another thread is warned of, and rightly.
    while _idle:
        helper = _idle.pop()
        helper.jobs.put(None)
        task, end = Path(f"/proc/self/task/{helper.native_id}"), monotonic() + 0.1
        while task.exists() and monotonic() < end:
            sleep(0.0001)


def _end_waits() -> None:
    # Of a fork in a signal's handler: the thread that makes the call is the parent's.
    _idle.clear()
    for done in _waited_for:
        done.put((None, Cancelled("The process was forked during the call, which goes on in the parent alone.")))


os.register_at_fork(before=_end_idle, after_in_child=_end_waits)


def interruptible(work: Callable[[], _T], cancel: Callable[[], None]) -> _T:
    """Runs `work`. If a signal's handler raises in the main thread meanwhile, calls `cancel`, and lets that go on."""
    # At its end the interpreter runs no other thread any more.
    if threading.get_ident() != threading.main_thread().ident or sys.is_finalizing():
        return work()
    done: SimpleQueue[Any] = SimpleQueue()
    outcome = None
    try:
        _waited_for.append(done)  # before anything that another thread has to answer
        while not _idle and outcome is None:
            try:
                start_new_thread(_Helper().run, (done,))
            except RuntimeError:  # the interpreter is about to end, or the system has no thread left
                return work()
            outcome = done.get()
        if outcome is None:
            # A handler runs after a call of Python's at the earliest, so none does between the look and the put.
            helper = _idle[-1]
            del _idle[-1]
            helper.jobs.put((work, done))
            outcome = done.get()
    except BaseException:
        cancel()
        raise
    finally:
        if done in _waited_for:
            _waited_for.remove(done)
    result: _T
    result, error = outcome
    if error is None:
        return result
    try:
        raise error
    finally:
        del error, outcome  # or it would hold on to itself by its traceback
