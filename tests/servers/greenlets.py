"""Run with the name of a library, gevent or eventlet, and how to patch: `before the import`, `after the import`, or
`without` a module.

Calls in the main greenlet and in others, with signals, programs and forks meanwhile. Prints what was seen to work.
"""

import base64
import importlib
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time
import warnings

warnings.simplefilter("ignore")  # eventlet is deprecated
library, moment, *modules = sys.argv[1:]
unpatched = dict.fromkeys(modules if moment == "without" else (), False)


def patch():
    if library == "gevent":
        importlib.import_module("gevent.monkey").patch_all(**unpatched)
    else:
        importlib.import_module("eventlet").monkey_patch(**unpatched)


if moment != "after":
    patch()
from spike_auth import Cancelled, Client  # noqa: E402

if moment == "after":
    patch()
green = importlib.import_module(library)


def seen(what: str) -> None:
    print(what, flush=True)


def user_of(token: str) -> str:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["sub"]


def result(greenlet) -> str:
    return greenlet.get() if library == "gevent" else greenlet.wait()


def at_once(users: list[str]) -> list[str]:
    return [*map(result, [green.spawn(client.token, user) for user in users])]


client = Client.from_env()
assert user_of(client.token("alice")) == "alice"
seen("a call in the main greenlet")

assert subprocess.run(["true"], check=False).returncode == 0
seen("a program ends")

ticks = 0


def tick() -> None:
    global ticks
    while True:
        ticks += 1
        green.sleep(0.01)


ticking = green.spawn(tick)
client.exchange("fault.delay.500")
assert ticks > 5, ticks
seen("others run while the main greenlet waits")

before = ticks
at_once(["fault.delay.500.another"])
assert ticks > before + 5, ticks
seen("others run while a greenlet waits")

logged = []


def log_slowly(_: object) -> bool:
    logged.append(1)
    deadline = time.monotonic() + 8
    while len(logged) == 1 and time.monotonic() < deadline:
        green.sleep(0.01)
    return False


logger = logging.getLogger("spike_auth")
logger.addFilter(log_slowly)
logger.setLevel(logging.DEBUG)
start = time.monotonic()
at_once(["fault.delay.200.logs-slowly", "fault.delay.500.meanwhile"])
assert time.monotonic() - start < 3  # a greenlet that is not woken looks after 5 s
logger.setLevel(logging.NOTSET)
logger.removeFilter(log_slowly)
seen("others run while a greenlet logs")
ticking.kill()

# With fewer descriptors than greenlets.
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
users = [f"user-{number}" for number in range(1000)]
start = time.monotonic()
assert [user_of(token) for token in at_once(users)] == users
assert time.monotonic() - start < 8
seen("1000 at once")

assert len(set(at_once(["fault.delay.200"] * 1000))) == 1
seen("1000 at once for one user")

chance, outcomes = random.Random(1), []
kill_arguments = (green.GreenletExit, False) if library == "gevent" else ()  # not at once


def until_killed() -> None:
    user = f"user-{chance.randrange(20)}"
    try:
        outcomes.append(user_of(client.exchange(user)) == user)
    except BaseException:
        outcomes.append(None)
        raise


for _ in range(10):
    greenlets = [green.spawn(until_killed) for _ in range(100)]
    green.sleep(0)
    for _ in range(100):
        chance.choice(greenlets).kill(*kill_arguments)
        green.sleep(0)
    assert user_of(client.exchange("last")) == "last"
deadline = time.monotonic() + 8
while client.stats().pending and time.monotonic() < deadline:
    green.sleep(0.01)
assert client.stats().pending == 0
assert set(outcomes) == {True, None}
seen("greenlets killed at any moment")


def user_or_cancelled(user: str) -> str:
    try:
        return user_of(client.exchange(user))
    except Cancelled:
        return "cancelled"


def fork() -> int:
    """The parent's calls end in the child."""
    pid = os.fork()
    if pid == 0:
        is_right = user_or_cancelled("child") == "child" and {*map(result, calls)} == {"cancelled"}
        os._exit(0 if is_right else 1)
    return pid


calls = [green.spawn(user_or_cancelled, "fault.delay.1000") for _ in range(5)]
green.sleep(0.1)
child = result(green.spawn(fork))
assert {*map(result, calls)} == {"fault.delay.1000"}
assert os.waitpid(child, 0)[1] == 0
seen("a fork in a greenlet")


inside, refused = [], []


def call_client(*_: object) -> None:
    try:
        inside.append(user_of(client.exchange("handler")))
    except (AssertionError, RuntimeError, green_refusal):  # it interrupted the hub, which may not wait
        refused.append(1)


green_refusal = green.exceptions.BlockingSwitchOutError if library == "gevent" else RuntimeError
signal.signal(signal.SIGALRM, call_client)
deadline = time.monotonic() + 8
while len(inside) < 20 and time.monotonic() < deadline:
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 1e-3))
    start = time.monotonic()
    assert user_of(client.exchange("main")) == "main"
    assert time.monotonic() - start < 2
signal.setitimer(signal.ITIMER_REAL, 0)
assert set(inside) == {"handler"}, refused
seen("signal handlers that call a client")

# Both libraries pass SystemExit, which a handler raises in their hub, to the main greenlet.
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
start = time.monotonic()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
except SystemExit:
    assert time.monotonic() - start < 2
    seen("a signal after calls")

signal.signal(signal.SIGALRM, lambda *_: sys.exit())
signal.setitimer(signal.ITIMER_REAL, 0.2)
start = time.monotonic()
try:
    client.exchange("fault.delay.5000")
except SystemExit:
    assert time.monotonic() - start < 2
    seen("a signal ends a call")
