"""The client for asyncio."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time
from pathlib import Path

import pytest

from helpers import async_client_of, environment, in_flight, in_time, script, until_in_flight, user_of, wait_until
from spike_auth import ClientClosed, ExchangeTimeout, InvalidInput, Rejected, Status
from support import project


def threads() -> int:
    """All of this process, also the library's."""
    return len([*Path("/proc/self/task").iterdir()])


def start(call) -> asyncio.Future:
    return asyncio.ensure_future(call)


async def test_every_method(own_sandbox):
    async with async_client_of(own_sandbox) as client:
        first = await client.token("alice")
        assert await client.token("alice", timeout=1) == first
        assert await client.authorization("alice") == f"Bearer {first}"
        assert await client.exchange("alice") != first
        assert await client.exchange("alice", client.sign("alice"))
        assert client.sign_many(["alice"]) == [client.sign("alice")]
        client.invalidate("alice", first)
        assert await client.token("alice") != first
        client.forget("alice")
        client.clear()
        assert (client.stats().hits, client.stats().invalidations) == (2, 1)
        for user, timeout, error in [
            ("a b", 1, InvalidInput),
            ("alice", 0, InvalidInput),
            (b"alice", 1, TypeError),
        ]:
            with pytest.raises(error):
                await client.token(user, timeout=timeout)
        with pytest.raises(Rejected) as caught:
            await client.exchange("alice", "0" * 64)
        assert caught.value.status is Status.UNAUTHORIZED
        assert repr(client) == "<spike_auth.AsyncClient (open)>"
        with pytest.raises(TypeError, match="AsyncClient cannot be copied or pickled"):
            pickle.dumps(client)


async def test_a_hit_does_not_yield_to_the_loop(own_sandbox):
    async with async_client_of(own_sandbox) as client:
        token = await client.token("alice")
        # A coroutine that never waits ends at its first step, and so used no other thread.
        with pytest.raises(StopIteration) as end:
            client.token("alice").send(None)
        assert end.value.value == token


# ---- tasks that wait for the same user


async def test_tasks_that_wait_for_one_user_take_no_place_of_others(own_sandbox):
    async with async_client_of(own_sandbox, max_concurrency=2, timeout=30) as client:
        waiting = [start(client.token("fault.delay.1500")) for _ in range(100)]
        await until_in_flight(own_sandbox, 1)
        assert client.stats().pending == 100
        for user in ("alice", "bob"):
            assert user_of(await client.token(user)) == user
        assert not any(task.done() for task in waiting)
        assert len(set(await asyncio.gather(*waiting))) == 1
        stats = client.stats()
        assert (stats.misses, stats.coalesced, stats.exchanges, stats.pending) == (102, 99, 3, 0)


@pytest.mark.parametrize("first", ["late", "cancelled"])
async def test_a_waiting_task_takes_over_when_the_first_does_not_succeed(own_sandbox, first):
    async with async_client_of(own_sandbox, max_concurrency=1) as client:
        user = "fault.stall.x1"
        # The first task has less time than the reply takes, or is cancelled.
        leader = start(client.token(user, timeout=0.3 if first == "late" else 8))
        await until_in_flight(own_sandbox, 1)
        others = [start(client.token(user)) for _ in range(3)]
        await asyncio.sleep(0.05)
        if first == "cancelled":
            leader.cancel()
        failure, *tokens = await asyncio.gather(leader, *others, return_exceptions=True)
        assert isinstance(failure, ExchangeTimeout if first == "late" else asyncio.CancelledError)
        assert [user_of(token) for token in tokens] == [user] * 3


async def test_waiting_tasks_share_a_failure_as_separate_errors(own_sandbox):
    async with async_client_of(own_sandbox) as client:
        user = "fault.delay.200.and.status.403"
        outcomes = await asyncio.gather(*(client.token(user) for _ in range(20)), return_exceptions=True)
        assert {(type(one), one.status, one.http_status) for one in outcomes} == {(Rejected, Status.FORBIDDEN, 403)}
        assert len({id(one) for one in outcomes}) == 20
        assert project.counters(own_sandbox)["requests"] == 1


# ---- threads and the loop


def test_threads_are_bounded(own_sandbox):
    async def main(bound: int | None, most: int) -> None:
        async with async_client_of(own_sandbox, max_concurrency=bound, timeout=60) as client:
            before = threads()
            calls = [start(client.exchange("fault.stall")) for _ in range(most + 5)]
            await until_in_flight(own_sandbox, most)
            await asyncio.sleep(0.05)  # time for the others to begin, if they could
            assert in_flight(own_sandbox) == most
            assert threads() - before <= most + 1
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            await until_in_flight(own_sandbox, 0)

    asyncio.run(main(3, 3))
    asyncio.run(main(None, 32))


def test_the_loop_runs_during_an_exchange(sandbox):
    async def latency(waiting: asyncio.Future) -> float:
        late = []
        while not waiting.done():
            due = time.monotonic() + 0.005
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - due)
        return max(late)

    async def measure() -> float:
        async with async_client_of(sandbox) as client:
            without = await latency(start(asyncio.sleep(0.5)))
            exchange = start(client.exchange("fault.delay.1000"))
            late = await latency(exchange)
            assert await exchange
        return late if late > without else 0  # not later than the busy machine is by itself

    in_time(0.1, lambda: asyncio.run(measure()))  # a blocked loop would be late by a second


@pytest.mark.parametrize("call", ["exchange", "token"])
def test_cancelling_a_task_cancels_its_call_and_frees_its_place(own_sandbox, call):
    async def measure() -> float:
        # With one place, the next call shows that it is free.
        async with async_client_of(own_sandbox, max_concurrency=1, timeout=60) as client:
            task = start(getattr(client, call)("fault.stall"))
            await until_in_flight(own_sandbox, 1)
            begin = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.exchange("alice")
            took = time.monotonic() - begin
            await until_in_flight(own_sandbox, 0)
            return took

    in_time(0.1, lambda: asyncio.run(measure()))


async def test_a_task_that_waits_for_its_turn_can_be_cancelled(own_sandbox):
    async with async_client_of(own_sandbox, max_concurrency=1, timeout=60) as client:
        first = start(client.exchange("fault.stall"))
        await until_in_flight(own_sandbox, 1)
        second = start(client.exchange("bob"))
        await asyncio.sleep(0.01)
        second.cancel()
        first.cancel()
        for task in (first, second):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await client.exchange("alice")
    assert "bob" not in project.counters(own_sandbox)["users"]


def test_the_wait_for_a_turn_counts_against_the_deadline(own_sandbox):
    async def measure() -> float:
        async with async_client_of(own_sandbox, max_concurrency=1, timeout=60) as client:
            first = start(client.exchange("fault.stall"))
            await until_in_flight(own_sandbox, 1)
            with pytest.raises(ExchangeTimeout) as caught:
                await client.exchange("bob", timeout=0.05)
            assert (caught.value.status, caught.value.retryable) == (Status.TIMEOUT, True)
            # Half of its time is over when its turn comes.
            late = start(client.exchange("fault.stall.late", timeout=1))
            await asyncio.sleep(0.5)
            begin = time.monotonic()
            first.cancel()
            with pytest.raises(ExchangeTimeout) as caught:
                await late
            assert caught.value.attempts == 1  # the library's error
            took = time.monotonic() - begin
        await until_in_flight(own_sandbox, 0)
        assert "bob" not in project.counters(own_sandbox)["users"]
        return took

    in_time(0.9, lambda: asyncio.run(measure()))


def test_several_loops_share_a_client(sandbox):
    client = async_client_of(sandbox)
    users = [f"user{number}" for number in range(8)]
    tokens = {}

    async def use(user: str) -> None:
        tokens[user] = await asyncio.gather(client.exchange(user), client.token(user), client.token("common"))

    workers = [threading.Thread(target=asyncio.run, args=(use(user),)) for user in users]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for user in users:
        assert [user_of(token) for token in tokens[user]] == [user, user, "common"]
    asyncio.run(client.aclose())


def test_without_an_asyncio_loop(sandbox):
    client = async_client_of(sandbox)
    for call in (client.exchange("alice"), client.check_store(), client.forget_shared("alice"), client.diagnose()):
        with pytest.raises(RuntimeError, match="trio is not supported"):
            call.send(None)


# ---- the end


async def test_close_ends_calls_in_flight(own_sandbox, freed):
    client = async_client_of(own_sandbox, max_concurrency=2, timeout=60)
    tasks = [start(client.exchange(f"fault.stall.{number}")) for number in range(5)]
    await until_in_flight(own_sandbox, 2)
    await client.aclose()
    await client.aclose()
    for task in tasks:
        with pytest.raises(ClientClosed):
            await task
    with pytest.raises(ClientClosed):
        await client.token("alice")
    with pytest.raises(ClientClosed):
        client.sign("alice")
    gc.collect()
    assert len(freed) == 1


def test_a_loop_closed_during_a_call_leaves_nothing(own_sandbox):
    client = async_client_of(own_sandbox, timeout=60)
    loop = asyncio.new_event_loop()
    coroutines = [client.token("fault.stall") for _ in range(2)]
    tasks = [loop.create_task(coroutine) for coroutine in coroutines]
    loop.run_until_complete(until_in_flight(own_sandbox, 1))
    loop.close()
    for coroutine, task in zip(coroutines, tasks, strict=True):
        coroutine.close()
        task._log_destroy_pending = False  # abandoned on purpose
    wait_until(lambda: in_flight(own_sandbox) == 0)
    assert user_of(asyncio.run(client.token("alice"))) == "alice"
    asyncio.run(client.aclose())


def test_a_client_that_is_not_closed_prints_nothing(sandbox):
    code = """
import asyncio, logging
logging.getLogger("asyncio").setLevel(logging.ERROR)  # on a busy machine it warns of slow steps
from spike_auth import AsyncClient
async def main():
    client = AsyncClient.from_env(timeout=60)
    task = asyncio.ensure_future(client.exchange("fault.stall"))
    print(len(await client.token("alice")))
    await asyncio.sleep(0.1)
asyncio.run(main())
client = AsyncClient.from_env()
asyncio.run(client.token("alice"))
"""
    assert script(code, environment(sandbox)) == "119\n"
