"""AsyncClient with many tasks, many loops, and the loops of others."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import uvloop

from helpers import async_client_of, environment, in_flight, script, until_in_flight, user_of, wait_until
from spike_auth import ClientClosed, InternalError, _async
from support import project


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def threads() -> int:
    """All of this process, also the library's."""
    return len([*Path("/proc/self/task").iterdir()])


def without_debug() -> None:
    """Debugging keeps the stack of every future, which takes most of the time of 10 000 tasks."""
    asyncio.get_running_loop().set_debug(False)


# ---- many tasks


async def test_tasks_on_cold_users_need_few_threads(own_sandbox):
    without_debug()
    async with async_client_of(own_sandbox, max_concurrency=8, timeout=60) as client:
        users, before, seen = [f"user{number}" for number in range(20_000)], threads(), set()

        async def one(user: str) -> None:
            assert user_of(await client.token(user)) == user
            seen.add(threads())

        await asyncio.gather(*map(one, users))
        assert before < max(seen) <= before + 8 + 1
        assert client.stats().exchanges == len(users)


@pytest.mark.parametrize("order", [1, -1])
async def test_a_storm_of_cancellations(own_sandbox, order):
    without_debug()
    async with async_client_of(own_sandbox, max_concurrency=4, timeout=60) as client:
        tasks = [asyncio.ensure_future(client.token(f"fault.stall.{number % 5000}")) for number in range(10_000)]
        await until_in_flight(own_sandbox, 4)
        for task in tasks[::order]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
        assert client.stats().pending == 0
        assert user_of(await client.token("alice")) == "alice"
    await until_in_flight(own_sandbox, 0)


async def test_tasks_cancelled_at_any_moment_among_others(own_sandbox):
    without_debug()
    chance = random.Random(1)
    async with async_client_of(own_sandbox, timeout=60) as client:
        users = [f"user{chance.randrange(50)}" for _ in range(2000)]
        tasks = [asyncio.ensure_future(client.exchange(user)) for user in users]
        while not tasks[-1].done():
            chance.choice(tasks).cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = {type(outcome) for outcome in outcomes}
        assert kinds == {str, asyncio.CancelledError}
        assert all(user_of(got) == user for got, user in zip(outcomes, users, strict=True) if isinstance(got, str))
        assert client.stats().pending == 0


async def test_a_client_without_other_references_ends_its_call(own_sandbox):
    task = asyncio.ensure_future(async_client_of(own_sandbox).token("fault.delay.200"))
    await until_in_flight(own_sandbox, 1)
    gc.collect()
    assert user_of(await task) == "fault.delay.200"


# ---- ways to give a task a deadline


async def wait_for(call: asyncio.Future) -> None:
    with pytest.raises(TimeoutError if sys.version_info >= (3, 11) else asyncio.TimeoutError):
        await asyncio.wait_for(call, 0.1)


async def timeout(call: asyncio.Future) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await call


async def move_on_after(call: asyncio.Future) -> None:
    with anyio.move_on_after(0.1) as scope:
        await call
    assert scope.cancelled_caught


WAYS = [wait_for, move_on_after, *([timeout] if sys.version_info >= (3, 11) else [])]


@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_of_the_task_ends_its_call(own_sandbox, way):
    async def main() -> None:
        async with async_client_of(own_sandbox, timeout=60) as client:
            await way(client.token("fault.stall"))
            assert client.stats().pending == 0
            await until_in_flight(own_sandbox, 0)
            assert await client.token("alice")

    anyio.run(main, backend="asyncio")


# ---- loops

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


def run_in(loop: asyncio.AbstractEventLoop, main) -> None:
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


@pytest.mark.parametrize("make", LOOPS)
def test_loops_in_turn_keep_no_descriptor(own_sandbox, make):
    client, counts = async_client_of(own_sandbox), []
    for number in range(10):
        run_in(make(), client.exchange(f"user{number}"))
        gc.collect()
        counts.append((descriptors(), len(_async._queues)))
    assert counts[1:] == counts[:1] * 9
    assert counts[0][1] == 0
    asyncio.run(client.aclose())


@pytest.mark.parametrize("make", LOOPS)
def test_a_loop_closed_with_calls_in_it_leaves_nothing(own_sandbox, make):
    client = async_client_of(own_sandbox, timeout=60)
    run_in(make(), client.exchange("alice"))
    gc.collect()
    before, loop = descriptors(), make()
    tasks = [loop.create_task(client.token(f"fault.stall.{number}")) for number in range(20)]
    run_in(loop, until_in_flight(own_sandbox, 20))
    for task in tasks:
        task._log_destroy_pending = False  # abandoned on purpose
    del loop, task, tasks
    gc.collect()
    wait_until(lambda: in_flight(own_sandbox) == 0)
    assert client.stats().pending == 0
    run_in(make(), client.exchange("alice"))
    gc.collect()
    # At most the connections of the calls that were in flight went.
    assert descriptors() <= before
    assert len(_async._queues) == 0
    asyncio.run(client.aclose())


@pytest.mark.parametrize("make", LOOPS)
def test_loops_in_threads_share_a_client(own_sandbox, make):
    client, outcomes = async_client_of(own_sandbox, timeout=60), {}

    async def use(thread: int) -> None:
        users = [f"user{number}.of.{thread}" for number in range(100)]
        tasks = [client.token(user) for user in [*users, "common"]]
        assert [user_of(token) for token in await asyncio.gather(*tasks)] == [*users, "common"]
        cancelled = asyncio.ensure_future(client.token("fault.stall"))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        outcomes[thread] = await asyncio.gather(cancelled, client.exchange("last"), return_exceptions=True)

    workers = [threading.Thread(target=run_in, args=(make(), use(number))) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for cancelled, last in (outcomes[number] for number in range(4)):
        assert isinstance(cancelled, asyncio.CancelledError)
        assert user_of(last) == "last"
    assert project.counters(own_sandbox)["users"]["common"] == 1
    asyncio.run(client.aclose())


@pytest.mark.parametrize("make", LOOPS)
def test_close_from_another_thread_ends_the_calls_of_a_loop(own_sandbox, make):
    client = async_client_of(own_sandbox, timeout=60)

    async def main() -> None:
        tasks = [asyncio.ensure_future(client.token(f"fault.stall.{number % 50}")) for number in range(200)]
        await until_in_flight(own_sandbox, 32)
        closer = threading.Thread(target=client._close)
        closer.start()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        closer.join()
        assert {type(outcome) for outcome in outcomes} == {ClientClosed}

    run_in(make(), main())


async def test_a_loop_without_a_descriptor_for_its_queue(own_sandbox):
    async with async_client_of(own_sandbox) as client:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(InternalError, match="RLIMIT_NOFILE"):
                await client.exchange("alice")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert user_of(await client.exchange("alice")) == "alice"


# ---- interpreters

SUBINTERPRETERS = """
import sys, threading
try:
    import _interpreters as interpreters
    kinds = ["legacy", "isolated"]
except ImportError:
    import _xxsubinterpreters as interpreters
    kinds = [False]  # not isolated: such a one cannot import ctypes

CODE = '''
import asyncio, logging
logging.getLogger("asyncio").setLevel(logging.ERROR)  # on a busy machine it warns of slow steps
from spike_auth import AsyncClient, Client
client = Client.from_env()
assert client.exchange("alice") and client.token("bob")
async def main():
    async with AsyncClient.from_env() as other:
        assert await other.token("carol")
asyncio.run(main())
'''

def use(kind):
    one = interpreters.create(kind) if isinstance(kind, str) else interpreters.create(isolated=kind)
    assert interpreters.run_string(one, CODE) is None
    interpreters.destroy(one)

for kind in kinds * 2:
    use(kind)
    thread = threading.Thread(target=use, args=(kind,))
    thread.start()
    thread.join()
from spike_auth import Client
print(len(Client.from_env().exchange("alice")))
"""


def test_a_subinterpreter_can_end_after_calls(sandbox):
    assert script(SUBINTERPRETERS, environment(sandbox)) == "119\n"
