"""Processes: fork, multiprocessing in both ways, and what is new in a child."""

from __future__ import annotations

import sys

import pytest

from helpers import environment, python, script
from support import project

# Prints what `check` says in the parent and in each of three children; each must end by itself.
FORK = """
import base64, json, os, sys
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


@pytest.mark.parametrize("more", ["", "client.token('bob')", "client.exchange('bob')"])
def test_a_client_works_in_children_at_once(own_sandbox, more):
    """And without a warning: from 3.12 there is one of a fork beside another thread. As an error it would be lost."""
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
    done = python("-W", "always::DeprecationWarning", "-c", code, env=environment(own_sandbox))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1\n1\n1\n0\n"
    seen = project.counters(own_sandbox)["users"]
    assert (seen["alice"], seen["carol"]) == (1, 8)


def test_a_child_closes_its_own(own_sandbox):
    code = f"""{FORK}
client = Client.from_env()
client.token('alice')
def check():
    client.close()
    return repr(client)
children(check)
"""
    assert script(code, environment(own_sandbox)) == "<spike_auth.Client (closed)>\n" * 4


def test_ctrl_c_ends_a_call_in_a_child(own_sandbox):
    code = f"""{FORK}
import signal, threading
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
    code = f"""{FORK}
import signal, spike_auth, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside the thread that makes the call
client = Client.from_env()
forked = []
def fork(*_):
    forked.append(os.fork())
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    client.exchange('fault.delay.1000')
    said = "got it"
except spike_auth.Cancelled as error:
    said = f"{{error.status.name}}: {{error}}"
said += ", " + user_of(client.token("alice"))
if forked == [0]:
    print("child:", said, flush=True)
    os._exit(0)
assert os.waitpid(forked[0], 0)[1] == 0
print("parent:", said)
"""
    assert script(code, environment(own_sandbox)).splitlines() == [
        "child: CANCELLED: The process was forked during the call, which goes on in the parent alone., alice",
        "parent: got it, alice",
    ]


def test_a_fork_in_a_handler_at_any_moment_ends_in_parent_and_child(own_sandbox):
    code = f"""{FORK}
import random, signal, spike_auth, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
client = Client.from_env()
client.token('alice')
forked, here = [], os.getpid()
def fork(*_):
    if os.getpid() == here:
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
    if os.getpid() != here:
        os._exit(0 if user_of(client.exchange('carol')) == 'carol' else 1)
ends = time.monotonic() + 30
left = set(forked)
while left and time.monotonic() < ends:
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


def test_fork_while_threads_are_inside_calls(own_sandbox):
    code = f"""{FORK}
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads, which is what this is
client = Client.from_env()
stop = threading.Event()
def work():
    while not stop.is_set():
        client.token('alice'), client.exchange('bob'), client.sign('bob')
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
def check():
    return user_of(client.token('alice')) + user_of(client.exchange('bob'))
for _ in range(10): children(check)
stop.set()
for thread in threads: thread.join()
"""
    assert set(script(code, environment(own_sandbox)).split()) == {"alicebob"}


def test_the_pool_of_an_async_client_is_new_in_a_child(own_sandbox):
    code = f"""{FORK}
import asyncio, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # the pool's threads are there when it forks
client = AsyncClient.from_env()
def check():
    return user_of(asyncio.run(client.exchange('alice')))
check()
children(check)
"""
    assert script(code, environment(own_sandbox)) == "alice\n" * 4


# Two calls of which one follows the other; then what is counted in a child, and whether it can ask.
ASYNC = f"""{FORK}
import asyncio, logging, warnings
warnings.simplefilter("ignore", DeprecationWarning)
logging.getLogger("asyncio").setLevel(logging.ERROR)  # on a busy machine it warns of steps that take long
async def two_at_once():
    first, second = await asyncio.gather(client.token('fault.delay.200'), client.token('fault.delay.200'))
    assert user_of(first) == 'fault.delay.200' and second == first
def use():
    global client
    client = AsyncClient.from_env(timeout=5)
    asyncio.run(two_at_once())
def check():
    return f"{{client.stats().misses}} misses, token of {{user_of(asyncio.run(client.exchange('bob')))}}"
"""
ANEW = "0 misses, token of bob\n"


def test_a_child_that_has_the_pid_of_its_parent_is_another_process(own_sandbox):
    code = f"""{ASYNC}
os.getpid = lambda: 1
use()
children(check)
"""
    assert script(code, environment(own_sandbox)) == 3 * ANEW + ANEW.replace("0", "2")


def test_a_child_of_which_python_was_not_told_is_another_process(own_sandbox):
    code = f"""{ASYNC}
import ctypes
fork = ctypes.PyDLL(None).fork  # as a host in C does it
use()
child = fork()
if child == 0:
    print(check(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    assert script(code, environment(own_sandbox)) == ANEW


CANNOT = 77
NAMESPACES = f"""{ASYNC}
import ctypes, traceback
libc = ctypes.CDLL(None, use_errno=True)
NEWPID, NEWUSER = 0x20000000, 0x10000000

def in_a_namespace_of_its_own(body, *flags):
    if libc.unshare(sum(flags)) != 0:
        print(f"unshare: {{os.strerror(ctypes.get_errno())}}", file=sys.stderr)
        os._exit({CANNOT})
    child = os.fork()
    if child == 0:
        try:
            assert os.getpid() == 1
            body()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        os._exit(code)

def parent():
    use()
    in_a_namespace_of_its_own(lambda: print(check(), flush=True), NEWPID)

in_a_namespace_of_its_own(parent, NEWPID, *([NEWUSER] if os.geteuid() else []))
"""


def test_a_child_that_is_number_1_of_its_namespace_as_its_parent_is(own_sandbox):
    done = python("-c", NAMESPACES, env=environment(own_sandbox))
    if done.returncode == CANNOT:
        pytest.skip(f"no PID namespace can be made here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout, done.stderr) == (0, ANEW, "")


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
    env = environment(sandbox)
    # From 3.12 fork warns of the executor's own threads.
    options = ["-W", "ignore::DeprecationWarning"] if method == "fork" and sys.version_info >= (3, 12) else []
    done = python(*options, program, method, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    same, limited, refused = done.stdout.splitlines()
    assert (same, limited) == ("True", "RATE_LIMITED 429 70.0 True")
    assert refused.startswith("Client cannot be copied or pickled: ")
