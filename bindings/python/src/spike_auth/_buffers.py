"""What a call writes into, made once for each thread and used again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ctypes import addressof, byref, c_char, c_size_t, c_void_p
from typing import Any

from ._errors import SpikeAuthError, error_from
from ._prototypes import TOKEN_SIZE, ClientHandle, ErrorStruct

_Text = c_char * TOKEN_SIZE
_SIZE = c_size_t(TOKEN_SIZE)
_ZEROS = bytes(TOKEN_SIZE)


class Room:
    """Place for one result: a text, and the details of a failure."""

    __slots__ = ("_length", "error", "error_ref", "length_ref", "text", "text_ref", "user_len")

    def __init__(self) -> None:
        self.text = _Text()
        self.user_len = c_size_t()
        self.text_ref = c_void_p(addressof(self.text))
        self._length = c_size_t()
        self.length_ref = byref(self._length)
        self.error = ErrorStruct()
        self.error_ref = byref(self.error)

    def take(self) -> str:
        """Gives the text, and wipes it here."""
        text: bytes = self.text.value
        self.text.raw = _ZEROS[: len(text)]
        return text.decode()


class _Rooms(threading.local):
    """The rooms of a thread that are free.

    There are several because a call can begin inside another one: in a signal's handler, or in a `__del__`.
    """

    def __init__(self) -> None:
        self.free: list[Room] = []


_rooms = _Rooms()


def text_of(function: Callable[..., int], handle: ClientHandle | None, user: bytes) -> str | None:
    """The text that a function has at once; None, without a reason, if it fails.

    The quick way to it: the function is a bare one, whose arguments ctypes takes as they are. So they must be what the
    table of prototypes says.
    """
    free = _rooms.free
    room = free.pop() if free else Room()
    room.user_len.value = len(user)
    done: str | None = None
    if not function(handle, user, room.user_len, room.text_ref, _SIZE, room.length_ref, None):
        text = room.text
        value: bytes = text.value
        text.raw = _ZEROS[: len(value)]
        done = value.decode()
    free.append(room)
    return done


def outcome_of(function: Callable[..., int], *inputs: Any) -> str | SpikeAuthError:
    """The text that a function writes, or what it failed with.

    That is returned and not raised, since another thread may have asked.
    """
    free = _rooms.free
    room = free.pop() if free else Room()
    outcome: str | SpikeAuthError
    if function(*inputs, room.text_ref, _SIZE, room.length_ref, room.error_ref):
        outcome = error_from(room.error)
    else:
        outcome = room.take()
    free.append(room)  # one that is lost to a signal's exception is made anew
    return outcome


def check(function: Callable[..., int], *inputs: Any) -> None:
    """Call a function that writes no text, and raise what it fails with."""
    error = ErrorStruct()
    if function(*inputs, byref(error)):
        del inputs  # or the traceback would keep them: a handle, a key, a token
        raise error_from(error)
