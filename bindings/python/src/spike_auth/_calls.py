"""Calls that are started. The library returns at once, and a descriptor tells when they have ended."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_size_t, c_uint64
from typing import Any, NamedTuple

from ._buffers import Ending, Granted, check, ending_of
from ._errors import SpikeAuthError, error_from
from ._library import lib
from ._prototypes import CallHandle, ClientHandle, ErrorStruct, QueueHandle, Status

# Few, so that between them a loop does what else is due.
_BATCH = 32
_Tags = c_uint64 * _BATCH
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

    def free(self) -> None:
        """Free it at once, if nothing waits for its descriptor."""
        self._handle = QueueHandle()

    def start(self, client: ClientHandle, request: Request, call: CallHandle, tag: int) -> SpikeAuthError | None:
        """Start a call. Return the error if that fails: nothing is under way then."""
        error = ErrorStruct()
        has_failed = request.begin(client, *request.inputs, call, self._handle, tag, byref(error))
        return error_from(error) if has_failed else None

    def take(self) -> list[int]:
        """Return the tags of calls that have ended: at most 32. The descriptor stays readable if there are more."""
        tags, count = _Tags(), c_size_t()
        lib.queue_take(self._handle, tags, _BATCH, byref(count), None)
        return tags[: count.value]


def result_of(call: CallHandle) -> Ending | None:
    """Return the token of a started call, or its error; None while it is under way."""
    ending = ending_of(lib.call_get_token, call)
    return ending if isinstance(ending, Granted) or ending.status is not Status.PENDING else None
