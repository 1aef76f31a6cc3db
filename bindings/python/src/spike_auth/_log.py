"""The logger ``spike_auth``: a line for each exchange, and for each call that fails by itself."""

from __future__ import annotations

import logging
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from ._errors import SpikeAuthError
from ._prototypes import Status

if TYPE_CHECKING:
    from ._buffers import Ending

_logger = logging.getLogger("spike_auth")
_logger.addHandler(logging.NullHandler())


def logged(ending: Ending, began: float) -> Ending:
    """Log the ending of a call that missed, and return it. `began` is monotonic.

    A handler can take its time, switch greenlets or call the client: the caller holds nothing that another call waits
    for. If one raises, the line is lost, and not the token.
    """
    with suppress(Exception):
        if line := _line_for(ending):
            level, what, status = line
            if _logger.isEnabledFor(level):
                ms = round((monotonic() - began) * 1000)
                fields = {"status": status.name, "attempts": ending.attempts, "ms": ms}
                _logger.log(level, "%s: status=%s attempts=%d ms=%d", what, *fields.values(), extra=fields)
    return ending


def _line_for(ending: Ending) -> tuple[int, str, Status] | None:
    """Return level, event and status; None for what another call logs, and for what the caller did itself."""
    if ending.shared:
        return None
    if isinstance(ending, SpikeAuthError):
        is_own = ending.status < Status.RESOLVE or ending.status is Status.CANCELLED
        return None if is_own else (logging.WARNING, "call failed", ending.status)
    if ending.renewal_status:
        return logging.WARNING, "renewal failed, old token kept", Status(ending.renewal_status)
    return (logging.DEBUG, "exchange", Status.OK) if ending.attempts else None
