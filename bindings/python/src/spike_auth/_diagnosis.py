"""The library's report on what a token needs."""

from __future__ import annotations

import json
from ctypes import byref, c_size_t, create_string_buffer
from typing import Any

from ._errors import InternalError, SpikeAuthError, error_from
from ._library import lib
from ._prototypes import CallHandle, ClientHandle, ErrorStruct, Status

_SIZE = 1 << 16
_MORE = 1024


def diagnosis(client: ClientHandle, user: bytes, call: CallHandle) -> dict[str, Any] | SpikeAuthError:
    """Return the report, or the error. Most fit into the first buffer; one that does not is made again."""
    size, length, error = _SIZE, c_size_t(), ErrorStruct()
    while True:
        out = create_string_buffer(size)
        status = lib.client_diagnose(client, user, len(user), call, out, size, byref(length), byref(error))
        if not status:
            return _read(out.value)
        if status != Status.BUFFER_TOO_SMALL or length.value < size:
            return error_from(error)
        size = length.value + _MORE


def _read(text: bytes) -> dict[str, Any] | SpikeAuthError:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict):
        return InternalError("The library's report is no JSON: the package and the library do not fit together.")
    return report  # pyright: ignore[reportUnknownVariableType]  the members are those of docs/doctor.md
