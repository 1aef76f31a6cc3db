"""The client for asyncio."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from ._buffers import check, text_of
from ._client import BaseClient, Request, prepare, result_of
from ._errors import Cancelled, ExchangeTimeout, SpikeAuthError
from ._fork import Process, this_process
from ._library import lib
from ._settings import DEFAULT_MAX_CONCURRENCY, encode, milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._stats import Stats


class _Ahead(NamedTuple):
    """A task that is in the library for a user, until when, and what comes of it: None if it was cancelled."""

    end: float
    outcome: asyncio.Future[str | SpikeAuthError | None]


_Key = tuple[asyncio.AbstractEventLoop, bytes]


def running_loop() -> asyncio.AbstractEventLoop:
    """The loop of asyncio, or an error that says what else to use."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AsyncClient needs the loop of asyncio. trio is not supported: use Client, with trio.to_thread.run_sync"
        ) from None


class AsyncClient(BaseClient):
    """`Client` for asyncio: made with the same settings, raises the same errors, never blocks the loop.

    A token that is kept costs no change of thread. What waits for the service does so in a thread of a pool of its own,
    with `max_concurrency` threads at the most (32 by default), made when they are needed. A call that finds no thread
    free waits for one inside its own deadline. Cancelling a task cancels its call, and frees the thread at once.

    One client may serve the loops of several threads, and works in the children of a fork. trio is not supported: use
    `Client` there, with ``trio.to_thread.run_sync``.
    """

    _pools: dict[Process, ThreadPoolExecutor]
    _ahead: dict[_Key, _Ahead]  # of all who are in the library for a user, the one who can wait the longest
    _followers: Counter[Process]  # the calls that ended by waiting for another, which the library has not seen

    def _open(self, settings: Mapping[str, Any], *, from_env: bool) -> None:
        super()._open(settings, from_env=from_env)
        self._pools, self._ahead, self._followers = {}, {}, Counter()

    async def exchange(self, user_id: str, signature: str | None = None, *, timeout: float | None = None) -> str:
        """Get a new token from the service, as `Client.exchange` does."""
        return result_of(await self._wait_for(self._exchange_request(user_id, signature, timeout)))

    async def token(self, user_id: str, *, timeout: float | None = None) -> str:
        """Get the access token of a user, as `Client.token` does."""
        timeout_ms = 0 if timeout is None else milliseconds("timeout", timeout)
        user = encode("user_id", user_id)
        kept = text_of(lib.bare_client_peek_token, self._handle, user)
        return kept or result_of(await self._miss(user, timeout_ms))

    async def authorization(self, user_id: str, *, timeout: float | None = None) -> str:
        """Get the value of an ``Authorization`` header for a user: ``"Bearer "`` and what `token` gives."""
        return f"Bearer {await self.token(user_id, timeout=timeout)}"

    def stats(self) -> Stats:
        """Read the counters of what is kept. Raises `ClientClosed`."""
        seen, more = super().stats(), self._followers[this_process()]
        return replace(seen, misses=seen.misses + more, coalesced=seen.coalesced + more)

    async def aclose(self) -> None:
        """Close the client: calls in flight raise `ClientClosed` at once, and so do later ones. Ends its threads."""
        self._close()
        pool = self._pools.pop(this_process(), None)
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    async def _miss(self, user: bytes, timeout_ms: int) -> str | SpikeAuthError:
        """A token that is not kept: by a call of one's own, or by that of a task which is ahead with the same user.

        The library would make one exchange for all of them, but each would hold a thread while it waits there, and keep
        other users out. So only those go in who can wait more than twice as long as any who is there.
        """
        key, end = (running_loop(), user), monotonic() + (timeout_ms / 1000 or self._timeout)
        while (left := end - monotonic()) > 0:
            self._opened()
            ahead = self._ahead.get(key)
            if ahead is None or left > 2 * (ahead.end - monotonic()):
                return await self._go_ahead(key, end, (lib.client_get_token, (user, len(user)), math.ceil(left * 1000)))
            await asyncio.wait([ahead.outcome], timeout=left)
            outcome = ahead.outcome.result() if ahead.outcome.done() else None
            if outcome is not None and not isinstance(outcome, (ExchangeTimeout, Cancelled)):
                self._followers[this_process()] += 1
                return copy(outcome)
        self._followers[this_process()] += 1
        return ExchangeTimeout("The deadline of the call passed. Try again, or allow more time.", retryable=True)

    async def _go_ahead(self, key: _Key, end: float, request: Request) -> str | SpikeAuthError:
        mine = _Ahead(end, key[0].create_future())
        self._ahead[key] = mine
        outcome = None  # what it stays if the task is cancelled: another one goes on then
        try:
            outcome = await self._wait_for(request)
            return outcome
        finally:
            if self._ahead.get(key) is mine:
                del self._ahead[key]
            if not key[0].is_closed():
                mine.outcome.set_result(outcome)

    async def _wait_for(self, request: Request) -> str | SpikeAuthError:
        loop, handle = running_loop(), self._opened()
        call, perform = prepare(request)
        allowed = request[2] / 1000 or self._timeout
        end = monotonic() + allowed
        has_begun = False

        def work() -> str | SpikeAuthError:
            nonlocal has_begun
            has_begun = True
            # What was spent waiting for this thread is gone from the deadline; with 1 ms left, the library says so.
            check(lib.call_set_timeout_ms, call, max(1, int((end - monotonic()) * 1000)))
            return perform(handle)

        try:
            future = loop.run_in_executor(self._pool(), work)
        except RuntimeError:
            self._opened()  # closed meanwhile, or else the interpreter is at its end
            raise
        try:
            await asyncio.wait([future], timeout=allowed)
            if not (has_begun or future.done()):
                return ExchangeTimeout(
                    "The deadline of the call passed before a thread was free for it. Raise max_concurrency, or allow "
                    "more time.",
                    retryable=True,
                )
            await asyncio.wait([future])  # the library keeps the deadline
        finally:
            if not future.done():
                lib.call_cancel(call)  # first: a loop that was closed meanwhile takes no future back
                if not loop.is_closed():
                    future.cancel()
        return future.result()

    def _pool(self) -> ThreadPoolExecutor:
        """The pool of this process: the threads of a parent's are not in its child."""
        pool = self._pools.get(this_process())
        if pool is None:
            # No thread is started yet, so that one too many does no harm.
            new = ThreadPoolExecutor(self._max_concurrency or DEFAULT_MAX_CONCURRENCY, thread_name_prefix="spike_auth")
            pool = self._pools.setdefault(this_process(), new)
        return pool

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
