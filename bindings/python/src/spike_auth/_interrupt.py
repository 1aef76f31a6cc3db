"""Makes waiting calls interruptible by Ctrl-C.

Python runs signal handlers in the main thread, between bytecodes, and a call into the library is a single one. So the
main thread hands a waiting call to a helper thread, and waits for it in a way that a signal can interrupt.
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

# A thread's own faults must reach that thread. All other signals are for the main thread.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


class _Helper:
    """A reusable thread that runs one call at a time.

    Not a `threading.Thread`: starting one waits, and a signal handler that raises there leaves it half started.
    """

    def __init__(self) -> None:
        self.jobs: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]] | None] = SimpleQueue()
        self.native_id = 0

    def run(self, ready: SimpleQueue[Any]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
        self.native_id = threading.get_native_id()
        # It registers itself, so that it is not lost if its caller is interrupted. It ends if another one is idle.
        is_spare = bool(_idle)
        if not is_spare:
            _idle.append(self)
        ready.put(None)
        del ready
        while not is_spare and (job := self.jobs.get()) is not None:
            work, reply = job
            try:
                result, error = work(), None
            except BaseException as caught:  # noqa: BLE001  raised again by the caller
                result, error = None, caught
            del job, work  # they hold the client's handle
            is_spare = bool(_idle)
            if not is_spare:
                _idle.append(self)  # before the reply, or the next call would find no idle helper
            reply.put((result, error))
            del reply, result, error


_idle: list[_Helper] = []
# Queues that the main thread waits on; several if a signal handler makes a call too.
_awaited: list[SimpleQueue[Any]] = []


def _stop_idle() -> None:
    # Python warns of a fork in a process with several threads, with reason.
    while _idle:
        helper = _idle.pop()
        helper.jobs.put(None)
        task, deadline = Path(f"/proc/self/task/{helper.native_id}"), monotonic() + 0.1
        while task.exists() and monotonic() < deadline:
            sleep(0.0001)


def _cancel_waits() -> None:
    # A signal handler forked during a call. The helper that makes the call exists only in the parent.
    _idle.clear()
    for reply in _awaited:
        reply.put((None, Cancelled("The process forked during the call. The call continues in the parent only.")))


os.register_at_fork(before=_stop_idle, after_in_child=_cancel_waits)


def interruptible(work: Callable[[], _T], cancel: Callable[[], None]) -> _T:
    """Run `work`. If a signal handler raises in the main thread meanwhile, call `cancel` and let the exception pass."""
    # A finalizing interpreter runs no other thread.
    if threading.get_ident() != threading.main_thread().ident or sys.is_finalizing():
        return work()
    reply: SimpleQueue[Any] = SimpleQueue()
    outcome = None
    try:
        _awaited.append(reply)  # before any wait for another thread
        while outcome is None:
            try:
                # No signal handler runs between these and the put: Python checks for signals at calls and jumps only.
                helper = _idle[-1]
                del _idle[-1]
            except IndexError:
                pass
            else:
                helper.jobs.put((work, reply))
                outcome = reply.get()
                break
            try:
                start_new_thread(_Helper().run, (reply,))
            except RuntimeError:  # the interpreter is about to finalize, or the system's thread limit is reached
                return work()
            outcome = reply.get()
    except BaseException:
        cancel()
        raise
    finally:
        if reply in _awaited:
            _awaited.remove(reply)
    result: _T
    result, error = outcome
    if error is None:
        return result
    try:
        raise error
    finally:
        del error, outcome  # the traceback would make a reference cycle
