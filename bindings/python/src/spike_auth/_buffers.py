"""Output buffers of calls, reused per thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ctypes import addressof, byref, c_char, c_size_t, c_void_p
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ._errors import SpikeAuthError, error_from
from ._prototypes import TOKEN_SIZE, ClientHandle, ErrorStruct

_Text = c_char * TOKEN_SIZE
_SIZE = c_size_t(TOKEN_SIZE)
_ZEROS = bytes(TOKEN_SIZE)


@dataclass(slots=True)
class Granted:
    """A text, and what was done for it. A tool that records the locals of a log line's frames does not see the text."""

    text: str = field(repr=False)
    attempts: int = 0
    shared: bool = False  # another call made the exchange
    renewal_status: int = 0  # not 0: the old token, whose renewal failed so


Ending: TypeAlias = Granted | SpikeAuthError


class CallBuffers:
    """The buffers of one call: its text and its error."""

    __slots__ = ("_length", "error", "error_ref", "length_ref", "text", "text_ref", "user_len")

    def __init__(self) -> None:
        self.text = _Text()
        self.user_len = c_size_t()
        self.text_ref = c_void_p(addressof(self.text))
        self._length = c_size_t()
        self.length_ref = byref(self._length)
        self.error = ErrorStruct()
        self.error_ref = byref(self.error)

    def call(self, function: Callable[..., int], *inputs: Any, wants_text: bool = True) -> Ending:
        """Return the text that a function writes, or its error. The text is wiped, and copied only if it is wanted."""
        if function(*inputs, self.text_ref, _SIZE, self.length_ref, self.error_ref):
            return error_from(self.error)
        text: bytes = self.text.value if wants_text else b""
        self.text.raw = _ZEROS[: len(text)] if wants_text else _ZEROS
        return Granted(text.decode(), self.error.attempts, bool(self.error.shared), self.error.renewal_status)


class _FreeBuffers(threading.local):
    """The free buffers of a thread. A signal handler or a `__del__` can call while another call uses one."""

    def __init__(self) -> None:
        self.stack: list[CallBuffers] = []


_free = _FreeBuffers()


def text_of(function: Callable[..., int], handle: ClientHandle | None, user: bytes) -> str | None:
    """Return the text of a function that does not wait; None, without a reason, if it fails.

    The fast path: ctypes does not convert or check the arguments of an unchecked function, so their types must be
    those in the table of prototypes.
    """
    free = _free.stack
    buffers = free.pop() if free else CallBuffers()
    buffers.user_len.value = len(user)
    result: str | None = None
    if not function(handle, user, buffers.user_len, buffers.text_ref, _SIZE, buffers.length_ref, None):
        # CallBuffers.call, inlined for speed
        text = buffers.text
        value: bytes = text.value
        text.raw = _ZEROS[: len(value)]
        result = value.decode()
    free.append(buffers)
    return result


def ending_of(function: Callable[..., int], *inputs: Any) -> Ending:
    """Return the text that a function writes, or its error.

    The error is not raised here, because the call may be on another thread than its caller.
    """
    free = _free.stack
    buffers = free.pop() if free else CallBuffers()
    ending = buffers.call(function, *inputs)
    free.append(buffers)  # skipped if a signal handler raises: the next call allocates new ones
    return ending


def error_of(function: Callable[..., int], *inputs: Any) -> SpikeAuthError | None:
    """Call a function that writes no text, and return its error."""
    error = ErrorStruct()
    return error_from(error) if function(*inputs, byref(error)) else None


def check(function: Callable[..., int], *inputs: Any) -> None:
    """Do the same, but raise the error."""
    error = ErrorStruct()
    if function(*inputs, byref(error)):
        del inputs  # the traceback would keep the handle, key or token alive
        raise error_from(error)
