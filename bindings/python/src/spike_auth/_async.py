"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, ref

from ._buffers import error_of, text_of
from ._calls import Queue, Request, new_call, result_of
from ._client import BaseClient, value_or_raise
from ._diagnosis import diagnosis
from ._library import lib
from ._log import logged
from ._prototypes import CallHandle
from ._settings import encode, milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._buffers import Ending

_Value = TypeVar("_Value")


class _LoopQueue(Queue):
    """The calls of one loop, whatever their client. The loop keeps it, by its reader."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.tags = count()
        self.waiting: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self.fd, self._wake)

    def _wake(self) -> None:
        for tag in self.take():
            future = self.waiting.get(tag)
            if future is not None and not future.done():
                future.set_result(None)


_NO_LOOP = "AsyncClient needs a running asyncio loop. trio is not supported: use Client, with trio.to_thread.run_sync"
_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_LoopQueue]] = WeakKeyDictionary()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(_NO_LOOP) from None


def _queue_of(loop: asyncio.AbstractEventLoop) -> _LoopQueue:
    known = _queues.get(loop)
    queue = known and known()
    if not queue or not queue.is_usable():
        queue = _LoopQueue(loop)
        _queues[loop] = ref(queue)
    return queue


class _SharedCall(CallHandle):
    """The call of a task, made by another thread. Freed by the last of the two that lets it go."""

    def __del__(self, free: Callable[[CallHandle], None] = lib.call_free) -> None:  # bound, as that of `Handle`
        free(self)


class AsyncClient(BaseClient):
    """`Client` for asyncio: same settings, same errors, never blocks the loop.

    A cached token is returned without a switch to another task. Calls that wait for the service wait in the library, at
    most `max_concurrency` of them (32 by default) with a request in flight. They use no thread of Python; only
    `check_store` and `forget_shared` do. Cancelling a task cancels its call.

    One client can serve the loops of several threads, and works in forked children. trio is not supported: use `Client`
    there, with ``trio.to_thread.run_sync``.
    """

    async def exchange(self, user_id: str, signature: str | None = None, *, timeout: float | None = None) -> str:
        """Request a new token from the service, as `Client.exchange` does."""
        return await self._get(self._exchange_request(user_id, signature, timeout))

    async def token(self, user_id: str, *, timeout: float | None = None) -> str:
        """Return the access token of a user, as `Client.token` does."""
        timeout_ms = milliseconds("timeout", timeout)
        user = encode("user_id", user_id)
        cached = text_of(lib.unchecked_client_peek_token, self._handle, user)
        return cached or await self._get(self._token_request(user, timeout_ms))

    async def authorization(self, user_id: str, *, timeout: float | None = None) -> str:
        """Return the value of an ``Authorization`` header for a user: ``"Bearer "`` and the token."""
        return f"Bearer {await self.token(user_id, timeout=timeout)}"

    async def check_store(self, *, timeout: float | None = None) -> None:
        """Try every command that the store needs, as `Client.check_store` does, on a thread of the loop's executor."""
        await self._ask_store(timeout, lib.client_check_store)

    async def forget_shared(self, user_id: str, *, timeout: float | None = None) -> None:
        """Drop the token of a user here and in the store, as `Client.forget_shared` does, on such a thread."""
        user = encode("user_id", user_id)
        await self._ask_store(timeout, lib.client_forget_shared, user, len(user))

    async def diagnose(self, user_id: str | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Look at everything that a token needs, as `Client.diagnose` does, on such a thread."""
        user = b"" if user_id is None else encode("user_id", user_id)
        return value_or_raise(await self._on_thread(timeout, diagnosis, self._require_open(), user))

    async def _ask_store(self, timeout: float | None, function: Callable[..., int], *inputs: Any) -> None:
        error = await self._on_thread(timeout, error_of, function, self._require_open(), *inputs)
        try:
            if error is not None:
                raise error
        finally:
            del error  # as in value_or_raise

    async def _on_thread(self, timeout: float | None, work: Callable[..., _Value], *inputs: Any) -> _Value:
        _running_loop()
        call = _SharedCall(new_call(milliseconds("timeout", timeout)).value)
        try:
            return await asyncio.to_thread(work, *inputs, call)
        finally:
            lib.call_cancel(call)  # a task that is cancelled leaves a thread in the call

    async def aclose(self) -> None:
        """Close the client. Calls in flight raise `ClientClosed` at once, and so do later ones."""
        self._close()

    async def _get(self, request: Request) -> str:
        began = monotonic()
        return value_or_raise(logged(await self._perform(request), began)).text

    async def _perform(self, request: Request) -> Ending:
        handle = self._require_open()
        loop = _running_loop()
        queue, future, call = _queue_of(loop), loop.create_future(), new_call(request.timeout_ms)
        tag = next(queue.tags)
        queue.waiting[tag] = future
        try:
            ending: Ending | None = queue.start(handle, request, call, tag)
            while ending is None:
                await future
                ending = result_of(call)
            return ending
        finally:
            del queue.waiting[tag]
            lib.call_free(call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
