"""Many threads at once, the end of a client under them, and signals."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import client_of, environment, in_flight, in_time, python, script, user_of, wait_until
from spike_auth import ClientClosed, ExchangeTimeout, SpikeAuthError, Status, _interrupt
from spike_auth._prototypes import CallHandle, ClientHandle
from support import project


def test_one_exchange_for_all_threads_that_ask(own_sandbox):
    with client_of(own_sandbox) as client, ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda _: client.token("fault.delay.100"), range(64)))
    assert len(tokens) == 1
    assert project.counters(own_sandbox)["requests"] == 1


def test_no_thread_gets_anothers_token(client):
    def ask(number: int) -> None:
        user = f"user{number % 5}"
        assert user_of(client.token(user)) == user
        assert user_of(client.exchange(user)) == user

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(200)))


def test_other_threads_run_while_one_waits(client):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.exchange, "fault.delay.300")
        steps = 0
        while not waiting.done():
            steps += 1
        assert waiting.result()
    assert steps > 1000


@pytest.fixture
def frees(monkeypatch):
    """Every handle of a client that is freed, with the number of threads that were inside a call on it."""
    freed = []
    free = ClientHandle.free
    monkeypatch.setattr(ClientHandle, "free", lambda address: (freed.append(address), free(address)))
    return freed


def test_eight_threads_inside_calls_while_another_closes(sandbox, frees):
    client = client_of(sandbox, timeout=30)
    handle = client._handle.value
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(client.exchange, "fault.stall") for _ in range(4)]
        waiting += [pool.submit(client.token, f"fault.stall.{number}") for number in range(4)]
        wait_until(lambda: in_flight(sandbox) >= 8)
        assert frees == []
        client.close()
        for call in waiting:
            with pytest.raises(ClientClosed):
                call.result(timeout=10)
    assert frees == [handle]


def test_clients_that_are_closed_at_any_moment(sandbox, frees):
    rounds = 40
    for seed in range(rounds):
        client = client_of(sandbox)
        start = threading.Barrier(9)

        def work(number: int, client=client, start=start) -> None:
            calls = [
                lambda: client.token("alice"),
                lambda: client.sign("alice"),
                lambda: client.exchange("alice"),
                lambda: client.sign_many(["alice"] * 100),
                client.stats,
                lambda: client.forget("alice"),
            ]
            start.wait()
            with pytest.raises(ClientClosed):
                while True:
                    calls[number % len(calls)]()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        start.wait()
        time.sleep(random.Random(seed).random() * 0.01)
        closers = [threading.Thread(target=client.close) for _ in range(2)]
        for thread in closers:
            thread.start()
        for thread in threads + closers:
            thread.join(10)
            assert not thread.is_alive()
    del client, work
    assert len(frees) == rounds


def test_every_handle_of_a_call_is_freed(sandbox, monkeypatch):
    made, freed = [], []
    free, new = CallHandle.free, CallHandle.__init__
    monkeypatch.setattr(CallHandle, "free", lambda address: (freed.append(1), free(address)))
    monkeypatch.setattr(CallHandle, "__init__", lambda self: (made.append(1), new(self))[1])
    with client_of(sandbox) as client:
        client.exchange("alice")
        client.token("alice", timeout=1)
        with pytest.raises(ExchangeTimeout):
            client.exchange("fault.stall", timeout=0.01)
    assert len(made) == len(freed) == 3


# ---- signals


class Interrupt(Exception):
    """What a signal's handler raises."""


def during_a_stalled_exchange(sandbox, act):
    """Calls `act` in another thread when the exchange waits for its reply; gives what that returns."""
    seen = []

    def watch() -> None:
        wait_until(lambda: in_flight(sandbox) > 0)
        seen.append(act())

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, seen


def helpers() -> list[object]:
    return _interrupt._idle


@pytest.mark.parametrize("call", ["exchange", "token", "authorization"])
@pytest.mark.parametrize(
    ("number", "handler", "raised"),
    [
        (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (signal.SIGUSR1, None, Interrupt),
    ],
)
def test_a_signal_ends_a_stalled_exchange_at_once(own_sandbox, call, number, handler, raised):
    def own_handler(*_: object) -> None:
        raise Interrupt

    previous = signal.signal(number, handler or own_handler)
    client = client_of(own_sandbox, timeout=60)

    def measure() -> float:
        def act() -> float:
            now = time.monotonic()
            os.kill(os.getpid(), number)
            return now

        thread, sent = during_a_stalled_exchange(own_sandbox, act)
        with pytest.raises(raised):
            getattr(client, call)("fault.stall")
        ended = time.monotonic()
        thread.join()
        # Nothing is left: the helper is idle again, and the connection is closed.
        wait_until(lambda: len(helpers()) == 1)
        wait_until(lambda: in_flight(own_sandbox) == 0)
        return ended - sent[0]

    try:
        in_time(0.1, measure)
    finally:
        signal.signal(number, previous)
    assert user_of(client.exchange("alice")) == "alice"
    client.close()


def test_a_signal_whose_handler_returns_ends_nothing(own_sandbox, own_client):
    seen = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: seen.append(own_client.token("bob")))
    try:
        thread, _ = during_a_stalled_exchange(own_sandbox, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        # The handler makes an exchange of its own meanwhile.
        assert user_of(own_client.token("fault.delay.500.alice")) == "fault.delay.500.alice"
        thread.join()
        wait_until(lambda: seen)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert user_of(seen[0]) == "bob"
    wait_until(lambda: len(helpers()) == 1)


STORM = """
import os, random, signal, sys, time
from spike_auth import Client

client = Client.from_env(timeout=5)
client.token("alice")
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
chance = random.Random(1)
stopped, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 2e-3))
        for _ in range(50):
            client.exchange("bob")
    except Stop:
        stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
assert stopped > 50, stopped
time.sleep(0.2)
assert client.exchange("alice")
assert len(os.listdir("/proc/self/task")) <= 3, os.listdir("/proc/self/task")
print("calm")
"""


def test_handlers_that_raise_at_any_moment_leave_no_thread(sandbox):
    done = python("-c", STORM, env=environment(sandbox))
    # What a signal interrupts in a __del__ is said by Python, and goes on.
    assert (done.returncode, done.stdout) == (0, "calm\n"), done.stderr
    assert "KeyError" not in done.stderr


CYCLE = """
import gc, sys
from spike_auth import Client, ClientClosed

class Service:
    def __init__(self, client): self.client, self.me = client, self
    def __del__(self):
        print(len(self.client.sign("alice")), self.client.stats().entries, len(self.client.token("alice")) > 64)
        self.client.close()

service = Service(Client.from_env())
service.client.token("alice")
del service
gc.collect()
last = Service(Client.from_env())
last.client.token("alice")
class Late:
    def __del__(self):
        print(len(client.exchange("bob")) > 64)
client, late = Client.from_env(), Late()
client.token("alice")
"""


def test_a_client_in_garbage_and_at_the_end_of_the_interpreter_can_be_used(sandbox):
    # The two at the end go in whatever order the interpreter has.
    said = script(CYCLE, environment(sandbox)).splitlines()
    assert said[0] == "64 1 True"
    assert sorted(said[1:]) == ["64 1 True", "True"]


def test_one_helper_for_all_calls_of_the_main_thread(client):
    for _ in range(20):
        client.exchange("alice")
    assert len(helpers()) == 1
    with ThreadPoolExecutor(4) as pool:  # others need none
        list(pool.map(client.exchange, ["alice"] * 20))
    assert len(helpers()) == 1


def test_an_error_in_the_helper_is_raised_in_the_main_thread():
    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        _interrupt.interruptible(fail, lambda: None)


def test_a_cancelled_call_is_said_so(client):
    from spike_auth._client import prepare
    from spike_auth._library import lib

    call, perform = prepare((lib.client_exchange, (b"alice", 5), 0))
    lib.call_cancel(call)
    outcome = perform(client._handle)
    assert isinstance(outcome, SpikeAuthError)
    assert (outcome.status, type(outcome).__name__) == (Status.CANCELLED, "Cancelled")
