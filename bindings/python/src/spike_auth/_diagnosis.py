"""The library's report on what a token needs."""

from __future__ import annotations

import json
from ctypes import byref, c_size_t, create_string_buffer
from typing import Any

from ._errors import InternalError, SpikeAuthError, error_from
from ._library import lib
from ._prototypes import REPORT_SIZE, CallHandle, ClientHandle, ErrorStruct


def diagnosis(client: ClientHandle, user: bytes, call: CallHandle) -> dict[str, Any] | SpikeAuthError:
    """Return the report, or the error."""
    out, length, error = create_string_buffer(REPORT_SIZE), c_size_t(), ErrorStruct()
    if lib.client_diagnose(client, user, len(user), call, out, REPORT_SIZE, byref(length), byref(error)):
        return error_from(error)
    try:
        report = json.loads(out.value)
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict):
        return InternalError("The library's report is no JSON: the package and the library do not fit together.")
    return report  # pyright: ignore[reportUnknownVariableType]  the members are those of docs/doctor.md
