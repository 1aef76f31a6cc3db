"""How `Client` waits in a program that gevent or eventlet has patched: a thread can have thousands of greenlets."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._calls import LOOK_SECONDS, Queue, Request, new_call, result_of
from ._library import lib

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._buffers import Ending
    from ._prototypes import ClientHandle

# Not Python's own, because a program can have patched only some of its modules.
_MODULES = {"gevent": ("hub", "lock", "select"), "eventlet": ("hubs", "semaphore", "green.select")}
# A greenlet is not woken if a signal handler raised in the one that was about to wake it.
_LOST_SECONDS = 5


class _GreenletQueue(Queue):
    """The waiting greenlets of a hub, which share a descriptor.

    One of them, the leader, waits for it, and wakes those whose calls have ended.
    """

    def __init__(self, semaphore: Callable[[int], Any], select: Callable[..., Any]) -> None:
        super().__init__()
        self._semaphore, self._select, self._tags = semaphore, select, count()
        self._asleep: dict[int, Any] = {}  # to release one wakes its greenlet
        self.leader: object = None

    def perform(self, client: ClientHandle, request: Request, greenlet: object) -> Ending:
        tag, call, alarm = next(self._tags), new_call(request.timeout_ms), self._semaphore(0)
        self._asleep[tag] = alarm
        try:
            ending: Ending | None = self.start(client, request, call, tag)
            while ending is None:
                if self.leader is None:
                    self.leader = greenlet  # since the check, no signal handler has run
                    try:
                        self._select([self.fd], [], [], LOOK_SECONDS)
                    finally:
                        self.leader = None
                    for ended in self.take():
                        self._wake(ended)
                else:
                    alarm.acquire(timeout=_LOST_SECONDS)
                ending = result_of(call)
            return ending
        finally:
            del self._asleep[tag]
            lib.call_free(call)
            if self.leader is None:
                self._wake(next(reversed(self._asleep), tag))  # the one that probably waits longest

    def _wake(self, tag: int) -> None:
        alarm = self._asleep.get(tag)
        if alarm and alarm.locked():
            alarm.release()


_queues: WeakKeyDictionary[Any, _GreenletQueue] = WeakKeyDictionary()


def perform_in_greenlet(library: str, client: ClientHandle, request: Request) -> Ending:
    """Make a call and wait, while other greenlets run."""
    hubs, locks, selects = (import_module(f"{library}.{name}") for name in _MODULES[library])
    hub, greenlet = hubs.get_hub(), import_module("greenlet").getcurrent()
    queue = _queues.get(hub)
    if queue is None or not queue.is_usable():
        queue = _queues[hub] = _GreenletQueue(locks.Semaphore, selects.select)
    elif queue.leader is greenlet:  # a signal handler has interrupted the leader
        queue = _GreenletQueue(locks.Semaphore, selects.select)
    return queue.perform(client, request, greenlet)
