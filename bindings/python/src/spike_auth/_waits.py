"""How a call waits for the service.

The library can start a call and return at once. A queue of the library then has a descriptor that becomes readable when
the call has ended. An event loop waits for it, and so does `perform` wherever a blocking call would hold up more than
its own thread. A child of any fork is told by the library.
"""

from __future__ import annotations

import math
import os
import select
import threading
from collections.abc import Callable
from ctypes import byref, c_size_t, c_uint64
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from ._buffers import check, error_of, outcome_of
from ._errors import SpikeAuthError
from ._library import lib
from ._prototypes import CallHandle, ClientHandle, QueueHandle, Status

# Few, so that between them a loop does what else is due.
_BATCH = 32
_Tags = c_uint64 * _BATCH
_IDLE_QUEUES = 16
# A child that a signal handler forks during a wait shares the descriptor with its parent, which may empty it first. So
# a wait looks at its call each quarter of a second: the library says CANCELLED in the child.
LOOK_SECONDS = 0.25


class Request(NamedTuple):
    """A call that gets a token."""

    begin: Callable[..., int]  # starts it
    block: Callable[..., int]  # makes it, and waits
    inputs: tuple[Any, ...]  # between client and call
    timeout_ms: int  # 0: the client's


def new_call(timeout_ms: int) -> CallHandle:
    """Make the handle of a call, which the caller frees. To free it ends the call.

    Not by its last reference: a Ctrl-C that arrives in a `__del__` is lost.
    """
    call = CallHandle()
    check(lib.call_new, byref(call))
    if timeout_ms:
        check(lib.call_set_timeout_ms, call, timeout_ms)
    return call


class Queue:
    """Tells which started calls have ended. Holds one descriptor."""

    def __init__(self) -> None:
        self._handle = QueueHandle()
        check(lib.queue_new, byref(self._handle))
        self.fd: int = lib.queue_fd(self._handle)

    def is_usable(self) -> bool:
        """Return whether this process made it, and has not closed its descriptor."""
        return bool(lib.queue_fd(self._handle) >= 0)

    def start(self, client: ClientHandle, request: Request, call: CallHandle, tag: int) -> SpikeAuthError | None:
        """Start a call. Return the error if that fails: nothing is under way then."""
        return error_of(request.begin, client, *request.inputs, call, self._handle, tag)

    def take(self) -> list[int]:
        """Return the tags of calls that have ended: at most 32. The descriptor stays readable if there are more."""
        tags, count = _Tags(), c_size_t()
        lib.queue_take(self._handle, tags, _BATCH, byref(count), None)
        return tags[: count.value]


def result_of(call: CallHandle) -> str | SpikeAuthError | None:
    """Return the token of a started call, or its error; None while it is under way."""
    outcome = outcome_of(lib.call_get_token, call)
    is_pending = isinstance(outcome, SpikeAuthError) and outcome.status is Status.PENDING
    return None if is_pending else outcome


def perform(client: ClientHandle, request: Request) -> str | SpikeAuthError:
    """Make a call and wait. The error is returned, not raised: the traceback would keep the client's handle."""
    for patched in (select.select, threading.Lock):
        library = patched.__module__.partition(".")[0]
        if library in {"gevent", "eventlet"}:
            from ._greenlets import perform_in_greenlet  # noqa: PLC0415  few programs need it

            return perform_in_greenlet(library, client, request)
    if threading.get_ident() == threading.main_thread().ident:  # a blocking call would hold up signal handlers
        return _wait(client, request)
    call = new_call(request.timeout_ms)
    try:
        return outcome_of(request.block, client, *request.inputs, call)
    finally:
        lib.call_free(call)


# A wait has a queue of its own, because a signal handler can make a call meanwhile.
_idle: list[Queue] = []
_last_wait = -math.inf


def _idle_queue() -> Queue:
    try:
        return _idle.pop()
    except IndexError:
        return Queue()


def _wait(client: ClientHandle, request: Request) -> str | SpikeAuthError:
    global _last_wait  # noqa: PLW0603  a race changes nothing
    queue, call = _idle_queue(), new_call(request.timeout_ms)
    try:
        while (error := queue.start(client, request, call, 0)) and not queue.is_usable():
            queue = _idle_queue()
        outcome: str | SpikeAuthError | None = error
        while outcome is None:
            poll = select.poll()  # of its own too
            poll.register(queue.fd, select.POLLIN)
            poll.poll(LOOK_SECONDS * 1000)
            queue.take()
            outcome = result_of(call)
        return outcome
    finally:
        lib.call_free(call)
        _last_wait = monotonic()
        if len(_idle) < _IDLE_QUEUES:
            _idle.append(queue)


def _let_threads_end() -> None:
    """Wait, at most a moment, until the library's threads are gone: they stay for 10 ms after a call.

    From 3.12 Python warns of a fork in a process with several threads.
    """
    tasks = Path("/proc/self/task")
    while monotonic() < _last_wait + 0.1 and len([*tasks.glob("*")]) > threading.active_count():
        sleep(0.001)


os.register_at_fork(before=_let_threads_end)
