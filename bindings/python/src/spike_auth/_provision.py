"""Tokens for many users: a window of started calls with one queue. No thread, in whichever thread it runs."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Generator, Iterable
from copy import copy
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ._buffers import CallBuffers, Ending, Granted, text_of
from ._calls import LOOK_SECONDS, Queue, Request, new_call
from ._client import BaseClient
from ._errors import Cancelled, ClientClosed, InvalidInput, SpikeAuthError
from ._library import lib
from ._log import logged
from ._prototypes import CallHandle, Status
from ._settings import milliseconds
from ._waits import note_end

if TYPE_CHECKING:
    from ._prototypes import ClientHandle

# A call that the service has refused so often with a 429 or 503 ends with it.
_MOST_REFUSALS = 10
# The pause after a 429 that names no time, or none at all: a Retry-After of 0 or a date in the past.
_PAUSE_SECONDS = 1.0
# Cached tokens and bad ids that are handed out at once: memory stays bounded if all are.
_BATCH = 1024


class Outcome(NamedTuple):
    """What came of a user."""

    position: int
    error: SpikeAuthError | None
    token: str  # empty after an error, and if no tokens are wanted


class _User(NamedTuple):
    position: int
    id: bytes
    refusals: int
    began: float = 0.0  # its last call


class Window:
    """Gets the tokens of many users, with at most `concurrency` calls under way.

    `users` are positions and ids. It is read only as far as calls can be started, so it may be endless. Unless
    `wants_tokens`, no `str` is made of a token.

    A 429, or a 503 with Retry-After, is a pause and not an outcome: nobody new is started for the time that the error
    names, and then the user is started again. Only a user whose calls have ended ten times so gets it as an outcome.
    """

    def __init__(
        self,
        client: BaseClient,
        users: Iterable[tuple[int, bytes]],
        *,
        concurrency: int,
        timeout: float | None = None,
        wants_tokens: bool = False,
    ) -> None:
        self._client = handle_of(client)
        self._users = iter(users)
        self._concurrency = check_concurrency(concurrency)
        self._timeout_ms = milliseconds("timeout", timeout)
        self._wants_tokens = wants_tokens
        self._again: deque[_User] = deque()
        self._resumes_at = 0.0
        self._queue = Queue()
        # A call is used again when it has ended. Its index is its tag.
        self._calls: list[CallHandle] = []
        self._idle: list[int] = []
        self._under_way: dict[int, _User] = {}
        self._buffers = CallBuffers()

    @property
    def paused_for(self) -> float:
        """The seconds until calls are started again after a 429; 0 if they are not held back."""
        return max(self._resumes_at - monotonic(), 0)

    def outcomes(self) -> Generator[list[Outcome], None, None]:
        """Yield what has ended since the last time: at least each quarter of a second, then perhaps nothing.

        When the generator ends or is closed, all calls have ended. A failure that is nobody's own is raised:
        `ClientClosed`, and `InvalidInput` if the client has no key.
        """
        try:
            ended = self._feed()
            while ended or self._under_way or self._again:
                if not ended:
                    self._wait()
                ended += self._collect()
                yield ended
                ended = self._feed()
        finally:
            self._free()

    def stop(self) -> None:
        """Start no more calls. Those under way go on."""
        self._users = iter(())
        self._again.clear()
        self._concurrency = 0  # so that a 429 starts nobody again

    def _feed(self) -> list[Outcome]:
        ended: list[Outcome] = []
        while len(self._under_way) < self._concurrency and len(ended) < _BATCH and not self.paused_for:
            user = self._next()
            if user is None:
                break
            token = self._cached(user.id)
            if token is not None:
                ended.append(Outcome(user.position, None, token))
            elif error := self._start(user):
                ended.append(Outcome(user.position, error, ""))
        return ended

    def _next(self) -> _User | None:
        if self._again:
            return self._again.popleft()
        position, user = next(self._users, (-1, b""))
        return None if position < 0 else _User(position, user, 0)

    def _start(self, user: _User) -> SpikeAuthError | None:
        """Start a call. Return the error if the id is bad."""
        if not self._idle:
            self._idle.append(len(self._calls))
            self._calls.append(new_call(self._timeout_ms))
        index = self._idle[-1]
        inputs = (user.id, len(user.id))
        request = Request(lib.client_start_token, lib.client_get_token, inputs, self._timeout_ms)
        error = self._queue.start(self._client, request, self._calls[index], index)
        if error is None:
            self._under_way[self._idle.pop()] = user._replace(began=monotonic())
        elif error.status is not Status.INVALID_USER_ID:
            raise copy(error)  # one that no local holds: with its traceback that would be a cycle, and keep the client
        return error

    def _wait(self) -> None:
        if not self._queue.is_usable():
            raise Cancelled("The calls belong to the process that started them. Start again in the forked one.")
        seconds = min(LOOK_SECONDS, self.paused_for or LOOK_SECONDS)
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._queue.fd, select.POLLIN)
            poll.poll(seconds * 1000)
        else:  # eventlet removes it
            select.select([self._queue.fd], [], [], seconds)

    def _collect(self) -> list[Outcome]:
        ended: list[Outcome] = []
        while tags := self._queue.take():
            for index in tags:
                ending = self._buffers.call(lib.call_get_token, self._calls[index], wants_text=self._wants_tokens)
                user = self._under_way.pop(index)
                self._idle.append(index)
                outcome = self._outcome(user, ending)
                if outcome:
                    ended.append(outcome)
                if outcome or ending.attempts:  # else the client held it back, and it is to start again
                    logged(ending, user.began)
        return ended

    def _outcome(self, user: _User, ending: Ending) -> Outcome | None:
        if isinstance(ending, Granted):
            return Outcome(user.position, None, ending.text)
        return None if self._starts_again(user, ending) else Outcome(user.position, ending, "")

    def _starts_again(self, user: _User, error: SpikeAuthError) -> bool:
        if isinstance(error, ClientClosed):
            raise copy(error)
        if not _is_a_pause(error):
            return False
        # With no request sent, the client held the call back, or its own rate limit did.
        refusals = user.refusals + (error.attempts > 0)
        if refusals == _MOST_REFUSALS:
            return False
        self._resumes_at = max(self._resumes_at, monotonic() + (error.retry_after or _PAUSE_SECONDS))
        if self._concurrency:
            self._again.append(user._replace(refusals=refusals))
        return True

    def _cached(self, user: bytes) -> str | None:
        if self._wants_tokens:
            return text_of(lib.unchecked_client_peek_token, self._client, user)
        out = (self._buffers.text_ref, 0, self._buffers.length_ref)  # no room: the token is not copied
        status = lib.client_peek_token(self._client, user, len(user), *out, None)
        return "" if status == Status.BUFFER_TOO_SMALL else None

    def _free(self) -> None:
        while self._calls:
            lib.call_free(self._calls.pop())
        self._under_way.clear()
        self._queue.free()
        note_end()


def _is_a_pause(error: SpikeAuthError) -> bool:
    """Return whether all are to wait. A server error that names a time is a 503, which holds all back."""
    return error.status is Status.RATE_LIMITED or (error.status is Status.SERVER_ERROR and bool(error.retry_after))


def handle_of(client: BaseClient) -> ClientHandle:
    """Return the handle of an open client, of which callers keep a reference during a call."""
    if not isinstance(client, BaseClient):
        raise TypeError(f"client must be a spike_auth.Client, not {type(client).__name__}")
    return client._require_open()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  of this package


def check_concurrency(concurrency: int) -> int:
    """Return the number, if it is one of calls under way."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency must be an int, not {type(concurrency).__name__}")
    if concurrency < 1:
        raise InvalidInput("The concurrency is not a number above 0.")
    return concurrency
