"""How a call waits in a greenlet: in a program that gevent or eventlet has patched, each thread can have thousands."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._library import lib
from ._waits import LOOK_SECONDS, Queue, Request, new_call, result_of

if TYPE_CHECKING:
    from ._errors import SpikeAuthError
    from ._prototypes import ClientHandle

# Of their own, because a program can have patched only some modules.
_MODULES = {"gevent": ("gevent.lock", "gevent.select"), "eventlet": ("eventlet.semaphore", "eventlet.green.select")}
# A greenlet is not woken if a signal handler raised in the one that was about to wake it.
_LOST_SECONDS = 5

_current_greenlet: Any = import_module("greenlet").getcurrent


class _GreenletQueue(Queue):
    """The waiting greenlets of a thread, which share a descriptor.

    One of them, the leader, waits for it, and wakes those whose calls have ended.
    """

    def __init__(self, library: str) -> None:
        super().__init__()
        lock, select = map(import_module, _MODULES[library])
        self._semaphore, self._select = lock.Semaphore, select.select
        self._tags = count()
        self._asleep: dict[int, Any] = {}  # to release one wakes its greenlet
        self._leader: int | None = None  # not a reference: it would keep a greenlet that nobody resumes

    def perform(self, client: ClientHandle, request: Request) -> str | SpikeAuthError:
        tag, call, alarm = next(self._tags), new_call(request.timeout_ms), self._semaphore(0)
        self._asleep[tag] = alarm
        try:
            outcome: str | SpikeAuthError | None = self.start(client, request, call, tag)
            while outcome is None:
                if self._leader in {None, id(_current_greenlet())}:  # itself: this is a signal handler's call
                    self._lead()
                else:
                    alarm.acquire(timeout=_LOST_SECONDS)
                outcome = result_of(call)
            return outcome
        finally:
            del self._asleep[tag]
            lib.call_free(call)
            if self._leader is None:
                self._wake(next(reversed(self._asleep), tag))  # the one that probably waits longest

    def _lead(self) -> None:
        before, self._leader = self._leader, id(_current_greenlet())
        try:
            self._select([self.fd], [], [], LOOK_SECONDS)
        finally:
            self._leader = before
        for tag in self.take():
            self._wake(tag)

    def _wake(self, tag: int) -> None:
        alarm = self._asleep.get(tag)
        if alarm and alarm.locked():
            alarm.release()


# By the greenlet that each thread begins with.
_queues: WeakKeyDictionary[Any, _GreenletQueue] = WeakKeyDictionary()


def perform_in_greenlet(library: str, client: ClientHandle, request: Request) -> str | SpikeAuthError:
    """Make a call and wait while others run."""
    first = _current_greenlet()
    while first.parent is not None:
        first = first.parent
    queue = _queues.get(first)
    if queue is None or not queue.is_usable():
        queue = _queues[first] = _GreenletQueue(library)
    return queue.perform(client, request)
