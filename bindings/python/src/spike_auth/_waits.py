"""How a call waits for the service.

The library can start a call and return at once. A queue of the library then has a descriptor that becomes readable when
the call has ended. An event loop waits for it, and so does `perform` wherever a blocking call would hold up more than
its own thread. No Python thread or lock takes part, and a child of any fork is told by the library.
"""

from __future__ import annotations

import math
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from ctypes import byref, c_size_t, c_uint64
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from ._buffers import check, outcome_of
from ._errors import SpikeAuthError, error_from
from ._library import lib
from ._prototypes import CallHandle, ClientHandle, ErrorStruct, QueueHandle, Status

# Few, so that between them a loop does what else is due.
_BATCH = 32
_IDLE_QUEUES = 16
# A child that a signal handler forks during a wait shares the descriptor with its parent, which may empty it first. So
# a wait looks at its call each quarter of a second: the library says CANCELLED in the child.
_LOOK_SECONDS = 0.25


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
    """Tells which started calls have ended. Holds one descriptor, and is used by one thread at a time."""

    def __init__(self) -> None:
        self._handle = QueueHandle()
        check(lib.queue_new, byref(self._handle))
        self.fd: int = lib.queue_fd(self._handle)
        self._tags, self._count, self._error = (c_uint64 * _BATCH)(), c_size_t(), ErrorStruct()

    def is_inherited(self) -> bool:
        """Return whether a parent of this process made it. It is then of no use here."""
        return bool(lib.queue_fd(self._handle) < 0)

    def start(self, client: ClientHandle, request: Request, call: CallHandle, tag: int) -> SpikeAuthError | None:
        """Start a call. Return the error if that fails: nothing is under way then."""
        if request.begin(client, *request.inputs, call, self._handle, tag, byref(self._error)):
            return error_from(self._error)
        return None

    def take(self) -> list[int]:
        """Return the tags of calls that have ended: at most 32. The descriptor stays readable if there are more."""
        lib.queue_take(self._handle, self._tags, _BATCH, byref(self._count), None)
        return self._tags[: self._count.value]


def result_of(call: CallHandle) -> str | SpikeAuthError:
    """Return the token of a started call, or its error."""
    return outcome_of(lib.call_get_token, call)


def _is_pending(outcome: str | SpikeAuthError) -> bool:
    return isinstance(outcome, SpikeAuthError) and outcome.status is Status.PENDING


def perform(client: ClientHandle, request: Request) -> str | SpikeAuthError:
    """Make a call and wait. The error is returned, not raised: the traceback would keep the client's handle."""
    if _are_greenlets():
        return _greenlets().wait(client, request)
    if threading.get_ident() == threading.main_thread().ident:  # a blocking call would hold up signal handlers
        return _wait(client, request)
    call = new_call(request.timeout_ms)
    try:
        return outcome_of(request.block, client, *request.inputs, call)
    finally:
        lib.call_free(call)


def _are_greenlets() -> bool:
    """Return whether gevent or eventlet has replaced Python's locks: each thread may be a greenlet then."""
    return threading.Lock.__module__ != "_thread"


class _Greenlets(Queue):
    """The waiting greenlets of a thread. They may be thousands, so they share a descriptor.

    One of them, the leader, polls it, and wakes those whose calls have ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tags_made = count()
        self._asleep: dict[int, threading.Lock] = {}  # to release one wakes its greenlet
        self._has_leader = False

    def wait(self, client: ClientHandle, request: Request) -> str | SpikeAuthError:
        tag, call, alarm = next(self._tags_made), new_call(request.timeout_ms), threading.Lock()
        alarm.acquire()
        self._asleep[tag] = alarm
        try:
            outcome: str | SpikeAuthError | None = self.start(client, request, call, tag)
            while outcome is None or _is_pending(outcome):
                if self._has_leader:
                    alarm.acquire()
                else:
                    self._lead()
                outcome = result_of(call)
            return outcome
        finally:
            del self._asleep[tag]
            lib.call_free(call)
            if not self._has_leader:
                self._wake(next(reversed(self._asleep), tag))  # the one that probably waits longest

    def _lead(self) -> None:
        self._has_leader = True
        try:
            _wait_readable(self.fd)
        finally:
            self._has_leader = False
        for tag in self.take():
            self._wake(tag)

    def _wake(self, tag: int) -> None:
        alarm = self._asleep.get(tag)
        if alarm and alarm.locked():
            alarm.release()


# By thread of the system, which neither library replaces.
_greenlets_of: dict[int, _Greenlets] = {}


def _greenlets() -> _Greenlets:
    thread = threading.get_native_id()
    known = _greenlets_of.get(thread)
    if known is None or known.is_inherited():
        for other in [*_greenlets_of]:
            if not Path(f"/proc/self/task/{other}").exists():
                _greenlets_of.pop(other, None)
        known = _greenlets_of[thread] = _Greenlets()
    return known


# A wait has a queue of its own, because a signal handler can make a call meanwhile.
_idle: list[Queue] = []
_last_wait = -math.inf


def _idle_queue() -> Queue:
    try:
        return _idle.pop()
    except IndexError:
        return Queue()


def _wait(client: ClientHandle, request: Request) -> str | SpikeAuthError:
    global _last_wait  # noqa: PLW0603  a race of greenlets or threads changes nothing
    queue, call = _idle_queue(), new_call(request.timeout_ms)
    try:
        while (error := queue.start(client, request, call, 0)) and queue.is_inherited():
            queue = _idle_queue()
        outcome: str | SpikeAuthError | None = error
        while outcome is None or _is_pending(outcome):
            _wait_readable(queue.fd)
            queue.take()
            outcome = result_of(call)
        return outcome
    finally:
        lib.call_free(call)
        _last_wait = monotonic()
        if len(_idle) < _IDLE_QUEUES:
            _idle.append(queue)


def _wait_readable(fd: int) -> None:
    """Wait in a way that lets signal handlers run, and greenlets where select is patched."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(_LOOK_SECONDS * 1000)
    else:  # eventlet removes it, and its select takes any descriptor
        select.select([fd], [], [], _LOOK_SECONDS)


def _let_threads_end() -> None:
    """Wait, at most a moment, until the library's threads are gone: they stay for 10 ms after a call.

    From 3.12 Python warns of a fork in a process with several threads.
    """
    while monotonic() < _last_wait + 0.1 and not _are_greenlets() and _has_library_threads():
        sleep(0.001)


def _has_library_threads() -> bool:
    for name in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            if name.read_text() == "spike_auth\n":
                return True
    return False


os.register_at_fork(before=_let_threads_end)
