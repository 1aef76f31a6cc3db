"""The client for asyncio."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time

import pytest

from helpers import (
    async_client_of,
    client_of,
    environment,
    in_flight,
    in_time,
    script,
    settings_of,
    until_in_flight,
    user_of,
    wait_until,
)
from spike_auth import AsyncClient, ClientClosed, ExchangeTimeout, InvalidInput, NetworkError, Rejected, Status
from spike_auth._prototypes import ClientHandle
from support import project


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("spike_auth_")]


def test_all_of_it(own_sandbox):
    async def main() -> None:
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
            with pytest.raises(InvalidInput):
                await client.token("a b")
            with pytest.raises(InvalidInput):
                await client.token("alice", timeout=0)
            with pytest.raises(TypeError):
                await client.token(b"alice")
            with pytest.raises(Rejected) as caught:
                await client.exchange("alice", "0" * 64)
            assert caught.value.status is Status.UNAUTHORIZED
            assert repr(client) == "<spike_auth.AsyncClient (open)>"
            with pytest.raises(TypeError, match="AsyncClient cannot be copied or pickled"):
                pickle.dumps(client)
        assert threads() == []

    asyncio.run(main())


def test_a_hit_costs_no_thread(own_sandbox):
    with client_of(own_sandbox) as other:
        other.token("alice")

    async def main() -> None:
        client = async_client_of(own_sandbox)
        await client.token("alice")
        started = threads()
        assert len(started) == 1
        await client.aclose()
        wait_until(lambda: not threads())
        kept = async_client_of(own_sandbox)
        kept._pools[0] = None  # no pool was made, and none is
        await kept.token("alice")
        await kept.aclose()

    asyncio.run(main())


def test_a_hit_does_not_yield_to_the_loop(own_sandbox):
    async def main() -> None:
        async with async_client_of(own_sandbox) as client:
            token = await client.token("alice")
            # A coroutine that never waits ends at the first step.
            with pytest.raises(StopIteration) as end:
                client.token("alice").send(None)
            assert end.value.value == token

    asyncio.run(main())


def test_one_exchange_for_all_tasks_that_ask(own_sandbox):
    async def main() -> None:
        async with async_client_of(own_sandbox) as client:
            tokens = await asyncio.gather(*(client.token("fault.delay.100") for _ in range(200)))
            assert len(set(tokens)) == 1

    asyncio.run(main())
    assert project.counters(own_sandbox)["requests"] == 1


def test_those_who_wait_for_one_user_keep_no_other_out(own_sandbox):
    async def main() -> None:
        async with async_client_of(own_sandbox, max_concurrency=2, timeout=30) as client:
            waiting = [asyncio.ensure_future(client.token("fault.delay.1500")) for _ in range(100)]
            await until_in_flight(own_sandbox, 1)
            assert len(threads()) == 1
            for user in ("alice", "bob"):
                assert user_of(await client.token(user)) == user
            assert not any(task.done() for task in waiting)
            assert len(set(await asyncio.gather(*waiting))) == 1
            stats = client.stats()
            assert (stats.misses, stats.coalesced, stats.exchanges) == (102, 99, 3)

    asyncio.run(main())


def test_who_can_wait_longer_goes_on_when_the_first_cannot(own_sandbox):
    async def main(first: str) -> None:
        async with async_client_of(own_sandbox, max_concurrency=4) as client:
            user = f"fault.stall.x1.{first}"
            ahead = asyncio.ensure_future(client.token(user, timeout=0.5 if first == "late" else 8))
            await until_in_flight(own_sandbox, 1)
            # Some as patient as the first, and one that is far more so.
            others = [asyncio.ensure_future(client.token(user, timeout=seconds)) for seconds in (0.9, 0.9, 20)]
            await asyncio.sleep(0.05)
            if first == "cancelled":
                ahead.cancel()
            outcomes = await asyncio.gather(ahead, *others, return_exceptions=True)
            assert isinstance(outcomes[0], ExchangeTimeout if first == "late" else asyncio.CancelledError)
            assert user_of(outcomes[3]) == user
            assert all(isinstance(one, ExchangeTimeout) or user_of(one) == user for one in outcomes[1:3])
            assert client._ahead == {}

    asyncio.run(main("late"))
    asyncio.run(main("cancelled"))


def test_those_who_wait_share_a_failure_each_with_an_error_of_its_own(own_sandbox):
    async def main() -> None:
        async with async_client_of(own_sandbox) as client:
            user = "fault.delay.200.and.status.403"
            outcomes = await asyncio.gather(*(client.token(user) for _ in range(20)), return_exceptions=True)
            assert {(type(one), one.status, one.http_status) for one in outcomes} == {(Rejected, Status.FORBIDDEN, 403)}
            assert len({id(one) for one in outcomes}) == 20
            assert project.counters(own_sandbox)["requests"] == 1

    asyncio.run(main())


def test_a_loop_that_is_closed_during_a_call_leaves_nothing(own_sandbox):
    client = async_client_of(own_sandbox, timeout=60)
    loop = asyncio.new_event_loop()

    coroutine = client.token("fault.stall")
    task = loop.create_task(coroutine)
    loop.run_until_complete(until_in_flight(own_sandbox, 1))
    loop.close()
    coroutine.close()
    task._log_destroy_pending = False  # that it is left is what is wanted
    wait_until(lambda: in_flight(own_sandbox) == 0)
    assert user_of(asyncio.run(client.token("alice"))) == "alice"
    asyncio.run(client.aclose())


def test_no_task_gets_anothers_token(sandbox):
    async def main() -> None:
        async with async_client_of(sandbox) as client:
            users = [f"user{number % 50}" for number in range(400)]
            tokens = await asyncio.gather(*map(client.token, users))
            assert [user_of(token) for token in tokens] == users

    asyncio.run(main())


def test_the_pool_is_bounded(own_sandbox):
    async def main(bound: int | None, most: int) -> None:
        async with async_client_of(own_sandbox, max_concurrency=bound, timeout=60) as client:
            calls = [asyncio.ensure_future(client.exchange("fault.stall")) for _ in range(most + 5)]
            await until_in_flight(own_sandbox, most)
            assert len(threads()) == most
            await asyncio.sleep(0.05)  # the others have had time to begin, if they could
            assert in_flight(own_sandbox) == len(threads()) == most
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            await until_in_flight(own_sandbox, 0)

    asyncio.run(main(3, 3))
    asyncio.run(main(None, 32))


def test_the_loop_goes_on_during_an_exchange(sandbox):
    async def latency(waiting: asyncio.Future) -> float:
        late = []
        while not waiting.done():
            due = time.monotonic() + 0.005
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - due)
        return max(late)

    async def measure() -> float:
        async with async_client_of(sandbox) as client:
            without = await latency(asyncio.ensure_future(asyncio.sleep(0.5)))
            exchange = asyncio.ensure_future(client.exchange("fault.delay.1000"))
            late = await latency(exchange)
            assert await exchange
        return late if late > without else 0  # what a busy machine does by itself is not the client's

    in_time(0.005, lambda: asyncio.run(measure()))


@pytest.mark.parametrize("call", ["exchange", "token"])
def test_cancelling_a_task_cancels_its_call_and_frees_its_thread(own_sandbox, call):
    async def measure() -> float:
        # With one thread, the next call shows that it is free.
        async with async_client_of(own_sandbox, max_concurrency=1, timeout=60) as client:
            task = asyncio.ensure_future(getattr(client, call)("fault.stall"))
            await until_in_flight(own_sandbox, 1)
            start = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.exchange("alice")
            took = time.monotonic() - start
            await until_in_flight(own_sandbox, 0)
            return took

    in_time(0.1, lambda: asyncio.run(measure()))


def test_wait_for(own_sandbox):
    async def main() -> None:
        async with async_client_of(own_sandbox, timeout=60) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.exchange("fault.stall"), 0.05)

    asyncio.run(main())


def test_a_task_that_waits_for_a_thread_is_cancelled_too(own_sandbox):
    async def main() -> None:
        async with async_client_of(own_sandbox, max_concurrency=1, timeout=60) as client:
            first = asyncio.ensure_future(client.exchange("fault.stall"))
            await until_in_flight(own_sandbox, 1)
            second = asyncio.ensure_future(client.exchange("bob"))
            await asyncio.sleep(0.01)
            second.cancel()
            first.cancel()
            for task in (first, second):
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await client.exchange("alice")
        assert "bob" not in project.counters(own_sandbox)["users"]

    asyncio.run(main())


def test_the_wait_for_a_thread_is_inside_the_deadline(own_sandbox):
    async def measure() -> float:
        async with async_client_of(own_sandbox, max_concurrency=1, timeout=60) as client:
            first = asyncio.ensure_future(client.exchange("fault.stall"))
            await until_in_flight(own_sandbox, 1)
            with pytest.raises(ExchangeTimeout, match="max_concurrency") as caught:
                await client.exchange("bob", timeout=0.05)
            assert (caught.value.status, caught.value.retryable) == (Status.TIMEOUT, True)
            # Half of it is over when the thread is free; the rest does not suffice.
            late = asyncio.ensure_future(client.exchange("fault.stall.late", timeout=1))
            await asyncio.sleep(0.5)
            start = time.monotonic()
            first.cancel()
            with pytest.raises(ExchangeTimeout):
                await late
            took = time.monotonic() - start
        await until_in_flight(own_sandbox, 0)
        assert "bob" not in project.counters(own_sandbox)["users"]
        return took

    in_time(0.9, lambda: asyncio.run(measure()))


def test_timeouts_are_the_librarys(sandbox):
    async def main() -> None:
        async with async_client_of(sandbox) as client:
            with pytest.raises(ExchangeTimeout) as caught:
                await client.exchange("fault.stall", timeout=0.05)
            assert caught.value.attempts == 1
        async with AsyncClient(**settings_of(sandbox) | {"base_url": sandbox["refused"]}, max_attempts=1) as client:
            with pytest.raises(NetworkError):
                await client.exchange("alice")

    asyncio.run(main())


def test_close_ends_calls_in_flight(own_sandbox, monkeypatch):
    gc.collect()  # those of other tests
    freed = []
    free = ClientHandle.free
    monkeypatch.setattr(ClientHandle, "free", lambda address: (freed.append(1), free(address)))

    async def main() -> None:
        client = async_client_of(own_sandbox, max_concurrency=2, timeout=60)
        tasks = [asyncio.ensure_future(client.exchange(f"fault.stall.{number}")) for number in range(5)]
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
        assert threads() == []

    asyncio.run(main())
    gc.collect()
    assert freed == [1]


def test_several_loops_share_a_client(sandbox):
    client = async_client_of(sandbox)
    users = [f"user{number}" for number in range(8)]
    tokens = {}

    def run(user: str) -> None:
        tokens[user] = asyncio.run(client.exchange(user))

    workers = [threading.Thread(target=run, args=(user,)) for user in users]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {user_of(token) for token in tokens.values()} == set(users)
    asyncio.run(client.aclose())


def test_without_a_loop_of_asyncio(sandbox):
    client = async_client_of(sandbox)
    with pytest.raises(RuntimeError, match="trio is not supported"):
        client.exchange("alice").send(None)


def test_a_client_that_is_not_closed_says_nothing(sandbox):
    code = """
import asyncio, logging
logging.getLogger("asyncio").setLevel(logging.ERROR)  # on a busy machine it warns of steps that take long
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
