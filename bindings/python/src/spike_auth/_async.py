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
from ._client import BaseClient, Request, prepare_call, text_or_raise
from ._errors import Cancelled, ExchangeTimeout, SpikeAuthError
from ._fork import Process, this_process
from ._library import lib
from ._settings import DEFAULT_MAX_CONCURRENCY, encode, optional_milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._stats import Stats


class _SharedFetch(NamedTuple):
    """The fetch of one task for a user. Its outcome is None if the task was cancelled."""

    deadline: float
    outcome: asyncio.Future[str | SpikeAuthError | None]


_Key = tuple[asyncio.AbstractEventLoop, bytes]


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running asyncio loop."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AsyncClient needs a running asyncio loop. trio is not supported: use Client, with trio.to_thread.run_sync"
        ) from None


class AsyncClient(BaseClient):
    """`Client` for asyncio: same settings, same errors, never blocks the loop.

    A cached token costs no thread switch. Calls that wait for the service run in the client's own thread pool of at
    most `max_concurrency` threads (32 by default), started on demand. A call waits for a free thread within its
    deadline. Cancelling a task cancels its call and frees the thread at once.

    One client can serve the loops of several threads, and works in forked children. trio is not supported: use `Client`
    there, with ``trio.to_thread.run_sync``.
    """

    _pools: dict[Process, ThreadPoolExecutor]
    _fetches: dict[_Key, _SharedFetch]  # per user, the fetch with the latest deadline
    _coalesced: Counter[Process]  # calls that ended by waiting for another fetch; the library does not see them

    def _open(self, settings: Mapping[str, Any], *, from_env: bool) -> None:
        super()._open(settings, from_env=from_env)
        self._pools, self._fetches, self._coalesced = {}, {}, Counter()

    async def exchange(self, user_id: str, signature: str | None = None, *, timeout: float | None = None) -> str:
        """Request a new token from the service, as `Client.exchange` does."""
        return text_or_raise(await self._perform(self._exchange_request(user_id, signature, timeout)))

    async def token(self, user_id: str, *, timeout: float | None = None) -> str:
        """Return the access token of a user, as `Client.token` does."""
        timeout_ms = optional_milliseconds("timeout", timeout)
        user = encode("user_id", user_id)
        cached = text_of(lib.unchecked_client_peek_token, self._handle, user)
        return cached or text_or_raise(await self._fetch(user, timeout_ms))

    async def authorization(self, user_id: str, *, timeout: float | None = None) -> str:
        """Return the value of an ``Authorization`` header for a user: ``"Bearer "`` and the token."""
        return f"Bearer {await self.token(user_id, timeout=timeout)}"

    def stats(self) -> Stats:
        """Return the counters of the cache. Raises `ClientClosed`."""
        stats, coalesced = super().stats(), self._coalesced[this_process()]
        return replace(stats, misses=stats.misses + coalesced, coalesced=stats.coalesced + coalesced)

    async def aclose(self) -> None:
        """Close the client and stop its threads. Calls in flight raise `ClientClosed` at once, and so do later ones."""
        self._close()
        pool = self._pools.pop(this_process(), None)
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    async def _fetch(self, user: bytes, timeout_ms: int) -> str | SpikeAuthError:
        """Fetch a token, or wait for the fetch of another task for the same user.

        The library would coalesce these calls too, but each would hold a thread while it waits, and so delay other
        users. A task makes a call of its own only if its remaining time is more than twice that of the current fetch.
        """
        key, deadline = (running_loop(), user), monotonic() + (timeout_ms / 1000 or self._timeout)
        while (remaining := deadline - monotonic()) > 0:
            self._require_open()
            current = self._fetches.get(key)
            if current is None or remaining > 2 * (current.deadline - monotonic()):
                request = (lib.client_get_token, (user, len(user)), math.ceil(remaining * 1000))
                return await self._lead_fetch(key, deadline, request)
            await asyncio.wait([current.outcome], timeout=remaining)
            outcome = current.outcome.result() if current.outcome.done() else None
            if outcome is not None and not isinstance(outcome, (ExchangeTimeout, Cancelled)):
                self._coalesced[this_process()] += 1
                return copy(outcome)
        self._coalesced[this_process()] += 1
        return ExchangeTimeout("The deadline of the call passed. Try again, or allow more time.", retryable=True)

    async def _lead_fetch(self, key: _Key, deadline: float, request: Request) -> str | SpikeAuthError:
        own = _SharedFetch(deadline, key[0].create_future())
        self._fetches[key] = own
        outcome = None  # stays None if the task is cancelled; a waiting task then fetches
        try:
            outcome = await self._perform(request)
            return outcome
        finally:
            if self._fetches.get(key) is own:
                del self._fetches[key]
            if not key[0].is_closed():
                own.outcome.set_result(outcome)

    async def _perform(self, request: Request) -> str | SpikeAuthError:
        loop, handle = running_loop(), self._require_open()
        call, perform = prepare_call(request)
        timeout = request[2] / 1000 or self._timeout
        deadline = monotonic() + timeout
        has_begun = False

        def work() -> str | SpikeAuthError:
            nonlocal has_begun
            has_begun = True
            # The wait for this thread counts against the deadline. With 1 ms left, the library reports the timeout.
            check(lib.call_set_timeout_ms, call, max(1, int((deadline - monotonic()) * 1000)))
            return perform(handle)

        try:
            future = loop.run_in_executor(self._pool(), work)
        except RuntimeError:
            self._require_open()  # closed meanwhile; otherwise the interpreter is finalizing
            raise
        try:
            await asyncio.wait([future], timeout=timeout)
            if not (has_begun or future.done()):
                return ExchangeTimeout(
                    "The deadline of the call passed before a thread was free. Raise max_concurrency, or allow more "
                    "time.",
                    retryable=True,
                )
            await asyncio.wait([future])  # the library enforces the deadline
        finally:
            if not future.done():
                lib.call_cancel(call)  # first: the loop may have been closed, and future.cancel would raise
                if not loop.is_closed():
                    future.cancel()
        return future.result()

    def _pool(self) -> ThreadPoolExecutor:
        """Return the pool of this process. A forked child has none of its parent's threads."""
        pool = self._pools.get(this_process())
        if pool is None:
            # A race makes a second pool, which is dropped before it starts a thread.
            new = ThreadPoolExecutor(self._max_concurrency or DEFAULT_MAX_CONCURRENCY, thread_name_prefix="spike_auth")
            pool = self._pools.setdefault(this_process(), new)
        return pool

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
