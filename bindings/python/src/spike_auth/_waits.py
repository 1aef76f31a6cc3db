"""How `Client` waits, without holding up signal handlers or other greenlets."""

from __future__ import annotations

import math
import os
import select
import threading
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from ._buffers import ending_of
from ._calls import LOOK_SECONDS, Queue, Request, new_call, result_of
from ._greenlets import perform_in_greenlet
from ._library import lib

if TYPE_CHECKING:
    from ._buffers import Ending
    from ._prototypes import ClientHandle


def perform(client: ClientHandle, request: Request) -> Ending:
    """Make a call and wait. The error is returned, not raised: the traceback would keep the client's handle."""
    for patched in (select.select, threading.Lock):
        library = patched.__module__.partition(".")[0]
        if library in {"gevent", "eventlet"}:
            return perform_in_greenlet(library, client, request)
    if threading.get_ident() == threading.main_thread().ident:  # a blocking call would hold up signal handlers
        return _wait(client, request)
    call = new_call(request.timeout_ms)
    try:
        return ending_of(request.block, client, *request.inputs, call)
    finally:
        lib.call_free(call)


# A wait has a queue of its own, because a signal handler can make a call meanwhile.
_IDLE_QUEUES = 16
_idle: list[Queue] = []
_last_wait = -math.inf


def note_end() -> None:
    """Say that a started call has ended just now."""
    global _last_wait  # noqa: PLW0603  a race changes nothing
    _last_wait = monotonic()


def _idle_queue() -> Queue:
    try:
        return _idle.pop()
    except IndexError:
        return Queue()


def _wait(client: ClientHandle, request: Request) -> Ending:
    queue, call = _idle_queue(), new_call(request.timeout_ms)
    try:
        while (error := queue.start(client, request, call, 0)) and not queue.is_usable():
            queue.free()  # before another has the number of its descriptor
            queue = _idle_queue()
        ending: Ending | None = error
        while ending is None:
            poll = select.poll()  # of its own too
            poll.register(queue.fd, select.POLLIN)
            poll.poll(LOOK_SECONDS * 1000)
            queue.take()
            ending = result_of(call)
        return ending
    finally:
        lib.call_free(call)
        note_end()
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
