"""The exceptions: one family for each way a caller can react."""

from __future__ import annotations

from typing import Any, ClassVar

from ._prototypes import ErrorStruct, Status


class SpikeAuthError(Exception):
    """The base of all errors. The text says what failed and what to do.

    It never contains a key, a signature, a token or a user id. It can be pickled.
    """

    statuses: ClassVar[tuple[Status, ...]] = (Status.INTERNAL,)
    """The statuses of this family."""
    status: Status
    """The library's status."""
    http_status: int | None
    """The status of the HTTP response; None without a response."""
    retry_after: float | None
    """Seconds to wait before the next try; None if unknown."""
    retryable: bool
    """Whether the same call may succeed later."""
    attempts: int
    """Requests sent; 0 if no connection could be made or none was needed."""
    shared: bool
    """Whether another call made the exchange, and this one only waited for its result."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        attempts: int = 0,
        shared: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = self.statuses[0] if status is None else Status(status)
        self.http_status = http_status
        self.retry_after = retry_after
        self.retryable = retryable
        self.attempts = attempts
        self.shared = shared

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__


class InvalidInput(SpikeAuthError, ValueError):
    """A bad argument: a user id, a signature, a number out of range. Nothing was sent."""

    statuses = (
        Status.INVALID_ARGUMENT,
        Status.NULL_POINTER,
        Status.INVALID_USER_ID,
        Status.INVALID_SIGNATURE,
        Status.BUFFER_TOO_SMALL,
        Status.KEY_REQUIRED,
        Status.SIGNATURE_MISMATCH,
    )


class ConfigurationError(SpikeAuthError, ValueError):
    """A setting is bad or missing. Nothing was sent."""

    statuses = (
        Status.INCOMPLETE_CONFIG,
        Status.INVALID_APPLICATION_ID,
        Status.INVALID_KEY,
        Status.INVALID_URL,
        Status.INVALID_ENVIRONMENT,
        Status.TLS_ROOTS,
        Status.FILE,
    )


class ClientClosed(SpikeAuthError):
    """The client was closed before or during the call. Make a new one."""

    statuses = (Status.CLOSED,)


class NetworkError(SpikeAuthError, ConnectionError):
    """The service, or the store, could not be reached, or the connection to it was lost."""

    statuses = (Status.CONNECT, Status.RESOLVE, Status.TLS, Status.CONNECTION_LOST, Status.PROXY, Status.STORE)


class ExchangeTimeout(SpikeAuthError, TimeoutError):
    """The deadline of the call passed."""

    statuses = (Status.TIMEOUT,)


class Cancelled(SpikeAuthError):
    """The call was cancelled."""

    statuses = (Status.CANCELLED,)


class Rejected(SpikeAuthError):
    """The service refused. The same call fails again, except after TOKEN_REJECTED, which is temporary."""

    statuses = (Status.REFUSED, Status.UNAUTHORIZED, Status.FORBIDDEN, Status.UNEXPECTED_STATUS, Status.TOKEN_REJECTED)


class RateLimited(SpikeAuthError):
    """Too many requests (429). Wait `retry_after` seconds if it is set."""

    statuses = (Status.RATE_LIMITED,)


class ServerError(SpikeAuthError):
    """The service failed (408, 425, 5xx)."""

    statuses = (Status.SERVER_ERROR,)


class InvalidResponse(SpikeAuthError):
    """The response has no usable token. A proxy or gateway may have answered instead of the service."""

    statuses = (Status.INVALID_RESPONSE, Status.RESPONSE_TOO_LARGE)


class InternalError(SpikeAuthError):
    """An internal failure, or a status unknown to this version."""

    statuses = (Status.INTERNAL, Status.PANIC)


FAMILIES = tuple(SpikeAuthError.__subclasses__())  # all so far
_FAMILY_OF = {status: family for family in FAMILIES for status in family.statuses}


class LibraryLoadError(SpikeAuthError, ImportError):
    """The library could not be loaded. The text lists every path tried, why it failed, and the cure."""


def error_from(struct: ErrorStruct) -> SpikeAuthError:
    """Return the exception for an error of the library."""
    status = Status(struct.status)
    return _FAMILY_OF.get(status, InternalError)(
        struct.message.decode("utf-8", "replace"),
        status=status,
        http_status=struct.http_status or None,
        retry_after=struct.retry_after_ms / 1000 if struct.retry_after_ms >= 0 else None,
        retryable=bool(struct.retryable),
        attempts=struct.attempts,
        shared=bool(struct.shared),
    )
