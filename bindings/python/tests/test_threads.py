"""Threads, the end of a client during their calls, and signals."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import client_of, environment, in_flight, in_time, python, user_of, wait_until
from spike_auth import ClientClosed, ExchangeTimeout, InternalError, _waits
from spike_auth._library import lib


def test_no_thread_receives_anothers_token(client):
    def use(number: int) -> None:
        user = f"user{number % 5}"
        assert user_of(client.token(user)) == user
        assert user_of(client.exchange(user)) == user

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(200)))


def test_other_threads_run_while_one_waits(client):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.exchange, "fault.delay.300")
        steps = 0
        while not waiting.done():
            steps += 1
        assert waiting.result()
    assert steps > 1000


def test_close_ends_the_calls_of_other_threads_and_the_last_one_frees(sandbox, freed):
    client = client_of(sandbox, timeout=30)
    handle = client._handle.value
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(client.exchange, "fault.stall") for _ in range(4)]
        waiting += [pool.submit(client.token, f"fault.stall.{number}") for number in range(4)]
        wait_until(lambda: in_flight(sandbox) >= 8)
        assert freed == []
        client.close()
        for call in waiting:
            with pytest.raises(ClientClosed):
                call.result(timeout=10)
    assert freed == [handle]


def test_clients_closed_at_any_moment(sandbox, freed):
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
    assert len(freed) == rounds


def test_call_handles_are_freed(sandbox, monkeypatch):
    made, freed = [], []
    new, free = _waits.new_call, lib.call_free
    monkeypatch.setattr(_waits, "new_call", lambda *given: made.append(1) or new(*given))
    monkeypatch.setattr(lib, "call_free", lambda call: freed.append(1) or free(call))
    with client_of(sandbox) as client, ThreadPoolExecutor(1) as pool:
        for run in (lambda call: call(), lambda call: pool.submit(call).result()):
            run(lambda: client.exchange("alice"))
            run(lambda: client.exchange("alice", timeout=1))
            with pytest.raises(ExchangeTimeout):
                run(lambda: client.exchange("fault.stall", timeout=0.01))
    assert len(made) == len(freed) == 6


# ---- signals


class Interrupt(Exception):
    """Raised by a signal handler."""


def raise_interrupt(*_: object) -> None:
    raise Interrupt


def signal_during_an_exchange(sandbox, number: int) -> tuple[threading.Thread, list[float]]:
    """Send a signal from another thread once an exchange waits for its reply. The list receives the time."""
    sent = []

    def watch() -> None:
        wait_until(lambda: in_flight(sandbox) > 0)
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, sent


@pytest.mark.parametrize("call", ["exchange", "token", "authorization"])
@pytest.mark.parametrize(
    ("number", "handler", "raised"),
    [(signal.SIGINT, signal.default_int_handler, KeyboardInterrupt), (signal.SIGUSR1, raise_interrupt, Interrupt)],
)
def test_a_signal_ends_a_stalled_call_at_once(own_sandbox, call, number, handler, raised):
    previous = signal.signal(number, handler)
    client = client_of(own_sandbox, timeout=60)

    def measure() -> float:
        thread, sent = signal_during_an_exchange(own_sandbox, number)
        with pytest.raises(raised):
            getattr(client, call)("fault.stall")
        ended = time.monotonic()
        thread.join()
        wait_until(lambda: in_flight(own_sandbox) == 0)
        return ended - sent[0]

    try:
        in_time(0.02, measure)
    finally:
        signal.signal(number, previous)
    assert user_of(client.exchange("alice")) == "alice"
    client.close()


def test_a_signal_handler_that_returns_ends_nothing(own_sandbox, own_client):
    seen = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: seen.append(own_client.token("bob")))
    try:
        thread, _ = signal_during_an_exchange(own_sandbox, signal.SIGUSR1)
        # Meanwhile the handler makes an exchange too.
        assert user_of(own_client.token("fault.delay.500.alice")) == "fault.delay.500.alice"
        thread.join()
        wait_until(lambda: seen)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert user_of(seen[0]) == "bob"


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
assert client.exchange("alice")
time.sleep(0.2)
assert len(os.listdir("/proc/self/task")) == 1, os.listdir("/proc/self/task")
print("done")
"""


def test_signal_handlers_that_raise_at_any_moment_leave_no_thread(sandbox):
    done = python("-c", STORM, env=environment(sandbox))
    # Nothing of what the handler raised was lost in a `__del__`: Python would print it.
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_close_from_another_thread_ends_a_call_of_the_main_thread(own_sandbox, freed):
    client = client_of(own_sandbox, timeout=60)
    closer = threading.Thread(target=lambda: (wait_until(lambda: in_flight(own_sandbox) == 1), client.close()))
    closer.start()
    with pytest.raises(ClientClosed):
        client.exchange("fault.stall")
    closer.join()
    assert len(freed) == 1


def test_a_client_without_other_references_ends_its_call(sandbox, freed):
    assert user_of(client_of(sandbox).exchange("alice")) == "alice"
    assert len(freed) == 1


def test_waits_reuse_their_queues(client, monkeypatch):
    monkeypatch.setattr(_waits, "_idle", [])
    for _ in range(20):
        client.exchange("alice")
    assert len(_waits._idle) == 1
    with ThreadPoolExecutor(4) as pool:  # other threads need none
        list(pool.map(client.exchange, ["alice"] * 20))
    assert len(_waits._idle) == 1


@pytest.mark.parametrize("is_reused", [False, True])
def test_a_call_after_the_program_has_closed_the_descriptor_of_a_queue(client, monkeypatch, is_reused):
    monkeypatch.setattr(_waits, "_idle", [])
    client.exchange("alice")
    (queue,) = _waits._idle
    if is_reused:
        with socket.socket() as own:
            os.dup2(own.fileno(), queue.fd)
    else:
        os.close(queue.fd)
    assert user_of(client.exchange("alice")) == "alice"
    assert _waits._idle != [queue]
    if is_reused:
        assert stat.S_ISSOCK(os.fstat(queue.fd).st_mode)
        os.close(queue.fd)


def test_a_call_without_a_descriptor_for_its_queue(client, monkeypatch):
    monkeypatch.setattr(_waits, "_idle", [])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(InternalError, match="RLIMIT_NOFILE"):
            client.exchange("alice")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert user_of(client.exchange("alice")) == "alice"
