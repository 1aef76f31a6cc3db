"""A store that clients share: its settings, and the two functions that tell whether it works."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import threading
import time

import pytest

from helpers import async_client_of, client_of, environment, script, settings_of, wait_until
from spike_auth import AsyncClient, Client, ClientClosed, InvalidInput, NetworkError, Status
from spike_auth._async import _SharedCall
from support import project
from support.peers import Peer

NOWHERE = "unix:///nowhere/at/all.sock"


def in_a_loop(client: AsyncClient):
    """The same two functions as those of a `Client`."""

    class Blocking:
        def check_store(self, **more) -> None:
            asyncio.run(client.check_store(**more))

        def forget_shared(self, user: str, **more) -> None:
            asyncio.run(client.forget_shared(user, **more))

    return Blocking()


@pytest.fixture(params=["Client", "AsyncClient"])
def functions(request, sandbox):
    """`check_store` and `forget_shared` of a client with these settings."""

    def make(**settings):
        given = {**settings_of(sandbox), **settings}
        return Client(**given) if request.param == "Client" else in_a_loop(AsyncClient(**given))

    return make


class Silent(Peer):
    """A store that accepts and says nothing until its clients leave."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.accepted = 0
        self.url = f"redis://127.0.0.1:{self.port}"

    def _wait(self, connection: socket.socket) -> None:
        self.accepted += 1
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass


# ---- a real store


def test_two_clients_share_one_exchange(own_sandbox, store):
    with client_of(own_sandbox, store=store) as one, client_of(own_sandbox, store=store) as other:
        token = one.token("alice")
        assert other.token("alice") == token
        assert project.counters(own_sandbox)["users"] == {"alice": 1}
        assert (one.stats().store_misses, other.stats().store_hits, other.stats().exchanges) == (1, 1, 0)
        one.forget_shared("alice")
        assert other.token("alice") == token  # its own
        other.forget("alice")
        assert one.token("alice") == other.token("alice") != token
        assert one.stats().store_errors == other.stats().store_errors == 0


def test_an_async_client_shares_with_another_process(own_sandbox, store):
    settings = {"SPIKE_STORE_URL": store, "SPIKE_STORE_TIMEOUT_MS": "5000"}
    code = "import spike_auth; print(spike_auth.Client.from_env().token('alice'))"

    async def main() -> None:
        async with async_client_of(own_sandbox, store=store, store_timeout=5) as client:
            token = await client.token("alice")
            assert script(code, environment(own_sandbox, **settings)) == f"{token}\n"
            await client.forget_shared("alice", timeout=20)
            assert await client.token("alice") != token

    asyncio.run(main())
    assert project.counters(own_sandbox)["users"] == {"alice": 2}


def test_a_store_that_works(functions, store):
    client = functions(store=store, store_timeout=5)
    client.check_store()
    client.check_store(timeout=20)
    client.forget_shared("alice")
    client.forget_shared("alice", timeout=20)


# ---- one that cannot be used


def test_the_error_tells_what_is_wrong(functions):
    for client, words, retryable in [
        (functions(store=NOWHERE), "The store cannot be used: .*Check the store's URL", True),
        (functions(), "none is set.*redis://localhost:6379", False),
    ]:
        with pytest.raises(NetworkError, match=words) as caught:
            client.check_store()
        assert (caught.value.status, caught.value.retryable) == (Status.STORE, retryable)
    with pytest.raises(NetworkError, match="cannot be used") as caught:
        functions(store=NOWHERE).forget_shared("alice")
    assert caught.value.status is Status.STORE
    functions().forget_shared("alice")  # without a store it only forgets


def test_arguments(functions, sandbox):
    client = functions(store=NOWHERE)
    with pytest.raises(TypeError, match="^user_id must be a str, not bytes$"):
        client.forget_shared(b"alice")
    with pytest.raises(InvalidInput) as caught:
        client.forget_shared("a b")
    assert caught.value.status is Status.INVALID_USER_ID
    for call in (client.check_store, lambda **more: client.forget_shared("alice", **more)):
        with pytest.raises(InvalidInput, match="timeout"):
            call(timeout=0)
    keyless = functions(hmac_key=None, store=NOWHERE)
    for call in (keyless.check_store, lambda: keyless.forget_shared("alice")):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.status is Status.KEY_REQUIRED


def test_calls_go_on_without_it(client, sandbox):
    with client_of(sandbox, store=NOWHERE) as other:
        assert other.token("alice") == client.token("alice")
        assert other.stats().store_errors == 1
        assert client.stats().store_errors == 0


# ---- how a call ends


@pytest.fixture
def freed_calls(monkeypatch):
    """One item for each call handle of a task that is freed."""
    gc.collect()  # those of other tests
    freed = []
    free = _SharedCall.__del__
    monkeypatch.setattr(_SharedCall, "__del__", lambda call: freed.append(1) or free(call))
    return freed


async def test_the_loop_runs_meanwhile_and_close_ends_the_call(sandbox):
    with Silent() as silent:
        client = async_client_of(sandbox, timeout=60, store=silent.url, store_timeout=10)
        task = asyncio.ensure_future(client.check_store())
        while not silent.accepted:
            await asyncio.sleep(0.005)
        begin = time.monotonic()
        await client.aclose()
        with pytest.raises(ClientClosed):
            await task
        assert time.monotonic() - begin < 5
        with pytest.raises(ClientClosed):
            await client.check_store()


def test_cancelling_a_task_ends_its_call(sandbox, freed_calls):
    async def main(silent: Silent) -> None:
        client = async_client_of(sandbox, timeout=60, store=silent.url, store_timeout=10)
        for number, call in enumerate((client.check_store(), client.forget_shared("alice"))):
            task = asyncio.ensure_future(call)
            while silent.accepted == number:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await client.aclose()

    with Silent() as silent:
        begin = time.monotonic()
        asyncio.run(main(silent))  # waits for the threads of its executor
        assert time.monotonic() - begin < 5
    assert len(freed_calls) == 2


def test_a_task_cancelled_before_a_thread_is_free_makes_no_call(sandbox, freed_calls):
    async def main(silent: Silent) -> None:
        loop, over = asyncio.get_running_loop(), threading.Event()
        busy = [loop.run_in_executor(None, over.wait) for _ in range(64)]  # more than it has threads
        client = async_client_of(sandbox, store=silent.url)
        task = asyncio.ensure_future(client.check_store())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        over.set()
        await asyncio.gather(*busy)
        await client.aclose()

    with Silent() as silent:
        asyncio.run(main(silent))
        assert silent.accepted == 0
    assert len(freed_calls) == 1


def test_ctrl_c_takes_effect_when_the_operation_ends(sandbox):
    with Silent() as silent, client_of(sandbox, timeout=60, store=silent.url, store_timeout=0.3) as client:
        main = threading.get_ident()
        watcher = threading.Thread(
            target=lambda: (wait_until(lambda: silent.accepted), signal.pthread_kill(main, signal.SIGINT))
        )
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            watcher.start()
            begin = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                with contextlib.suppress(NetworkError):  # a signal that is late
                    client.check_store()
                time.sleep(10)
            assert time.monotonic() - begin < 5
        finally:
            signal.signal(signal.SIGINT, previous)
            watcher.join()
