"""Fork and multiprocessing: clients, queues and counters in a child."""

from __future__ import annotations

import sys

import pytest

from helpers import environment, python, script
from support import project

# Prints the result of `check` in three children, each of which must end by itself, and in the parent.
FORK = """
import base64, json, os, signal, sys, threading, warnings
import spike_auth
from spike_auth import Client, AsyncClient

def user_of(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["sub"]

def children(check):
    sys.stdout.flush()
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                print(check(), flush=True)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
    print(check())
"""
# From 3.12 Python warns of a fork in a process with several threads, which some tests do on purpose.
THREADS = f"{FORK}\nwarnings.simplefilter('ignore', DeprecationWarning)\n"


@pytest.mark.parametrize("more", ["", "client.token('bob')", "client.exchange('bob')"])
def test_a_client_works_in_children_and_forks_without_a_warning(own_sandbox, more):
    code = f"""{FORK}
client = Client.from_env()
first = client.token('alice')
{more}
def check():
    assert client.token('alice') == first
    assert client.exchange('carol') and client.token('carol')
    return client.stats().forks
children(check)
"""
    # Not as an error: Python drops what a hook of fork raises.
    done = python("-W", "always::DeprecationWarning", "-c", code, env=environment(own_sandbox))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1\n1\n1\n0\n"
    users = project.counters(own_sandbox)["users"]
    assert (users["alice"], users["carol"]) == (1, 8)


def test_a_child_closes_its_own_client(own_sandbox):
    code = (
        f"{FORK}\nclient = Client.from_env(); client.token('alice')\nchildren(lambda: client.close() or repr(client))"
    )
    assert script(code, environment(own_sandbox)) == "<spike_auth.Client (closed)>\n" * 4


def test_an_async_client_works_in_a_child(own_sandbox):
    code = f"""{THREADS}
import asyncio
client = AsyncClient.from_env()
def check():
    return user_of(asyncio.run(client.exchange('alice')))
check()
children(check)
"""
    assert script(code, environment(own_sandbox)) == "alice\n" * 4


def test_a_signal_ends_a_call_in_a_child(own_sandbox):
    code = f"""{FORK}
client = Client.from_env()
client.exchange('alice')
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
def check():
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        client.exchange('fault.stall')
    except Stop:
        return user_of(client.token('alice'))
children(check)
"""
    assert script(code, environment(own_sandbox)) == "alice\n" * 4


def test_a_fork_in_a_signal_handler_does_not_leave_the_child_waiting(own_sandbox):
    code = f"""{THREADS}
client = Client.from_env()
forked = []
signal.signal(signal.SIGALRM, lambda *_: forked.append(os.fork()))
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    client.exchange('fault.delay.1000')
    result = "a token"
except spike_auth.Cancelled as error:
    result = error.status.name
result += f" {{user_of(client.token('alice'))}}"
if forked == [0]:
    print("child:", result, flush=True)
    os._exit(0)
assert os.waitpid(forked[0], 0)[1] == 0
print("parent:", result)
"""
    assert script(code, environment(own_sandbox)).splitlines() == [
        "child: CANCELLED alice",
        "parent: a token alice",
    ]


def test_a_fork_in_a_signal_handler_at_any_moment_leaves_nothing_waiting(own_sandbox):
    code = f"""{THREADS}
import random, time
client = Client.from_env()
client.token('alice')
forked, parent = [], os.getpid()
def fork(*_):
    if os.getpid() == parent:
        forked.append(os.fork())
signal.signal(signal.SIGALRM, fork)
chance = random.Random(2)
for _ in range(150):
    count = len(forked)
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 6e-4))
    try:
        while len(forked) == count:
            client.exchange('bob')
    except spike_auth.Cancelled:
        pass
    if os.getpid() != parent:
        os._exit(0 if user_of(client.exchange('carol')) == 'carol' else 1)
deadline = time.monotonic() + 30
left = set(forked)
while left and time.monotonic() < deadline:
    done, status = os.waitpid(-1, os.WNOHANG)
    if done:
        assert status == 0, status
        left.remove(done)
    else:
        time.sleep(0.01)
for child in left:
    os.kill(child, signal.SIGKILL)
print(len(forked), "forked,", len(left), "hang")
"""
    assert script(code, environment(own_sandbox)) == "150 forked, 0 hang\n"


def test_a_fork_while_threads_are_inside_calls(own_sandbox):
    code = f"""{THREADS}
client = Client.from_env()
stop = threading.Event()
def work():
    while not stop.is_set():
        client.token('alice'), client.exchange('bob'), client.sign('bob')
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(10): children(lambda: user_of(client.token('alice')) + user_of(client.exchange('bob')))
stop.set()
for thread in threads: thread.join()
"""
    assert set(script(code, environment(own_sandbox)).split()) == {"alicebob"}


# ---- what tells a child from its parent

# `check` uses what the parent's calls have left in the process.
BOTH = f"""{THREADS}
import asyncio, atexit, ctypes
client, other = Client.from_env(timeout=5), AsyncClient.from_env(timeout=5)
loop = asyncio.new_event_loop()
atexit.register(loop.close)
def check():
    tokens = client.exchange('alice'), asyncio.run(other.exchange('bob')), loop.run_until_complete(other.token('carol'))
    return f"{{client.stats().misses}} misses, tokens of {{' '.join(map(user_of, tokens))}}"
def use():
    client.token('dave'), check()
"""
CHILD = "0 misses, tokens of alice bob carol\n"


def test_a_child_with_the_pid_of_its_parent_is_another_process(own_sandbox):
    code = f"{BOTH}\nos.getpid = lambda: 1\nuse()\nchildren(check)"
    assert script(code, environment(own_sandbox)) == 3 * CHILD + CHILD.replace("0", "1")


@pytest.mark.parametrize("has_waiting_call", [False, True])
def test_a_child_forked_without_pythons_hooks_is_another_process(own_sandbox, has_waiting_call):
    """A host in C forks so. In the second case it does so in a signal handler, while the main thread waits."""
    code = f"""{BOTH}
forked = []
def fork(*_):
    forked.append(ctypes.PyDLL(None).fork())
use()
if {has_waiting_call}:
    signal.signal(signal.SIGALRM, fork)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        assert client.exchange('fault.delay.1000')
    except spike_auth.Cancelled:
        assert forked == [0]
else:
    fork()
if forked == [0]:
    print(check(), flush=True)
    os._exit(0)
assert os.waitpid(forked[0], 0)[1] == 0
"""
    assert script(code, environment(own_sandbox)) == CHILD


# ---- multiprocessing

WORKERS = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
import spike_auth

client = spike_auth.Client.from_env()

def token(user):
    return client.token(user)

def fail(user):
    return client.exchange(user)

def use(given):
    return given.token("alice")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(len(set(pool.map(token, ["alice"] * 20))) == 1)
        try:
            pool.submit(fail, "fault.status.429.and.retry-after.70").result()
        except spike_auth.RateLimited as error:
            print(error.status.name, error.http_status, error.retry_after, error.retryable)
        try:
            pool.submit(use, client).result()
        except TypeError as error:
            print(error)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(sandbox, tmp_path, method):
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)
    # From 3.12 Python warns of the executor's own threads.
    options = ["-W", "ignore::DeprecationWarning"] if method == "fork" and sys.version_info >= (3, 12) else []
    done = python(*options, program, method, env=environment(sandbox))
    assert (done.returncode, done.stderr) == (0, "")
    same, limited, refused = done.stdout.splitlines()
    assert (same, limited) == ("True", "RATE_LIMITED 429 70.0 True")
    assert refused.startswith("Client cannot be copied or pickled: ")
