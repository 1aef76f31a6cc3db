"""Run with the name of a library, gevent or eventlet, and `before` or `after`: when to patch, seen from the import.

Calls in the main greenlet and in others, with signals and programs meanwhile. Prints what was seen to work.
"""

import base64
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings

warnings.simplefilter("ignore")  # eventlet is deprecated
library, moment = sys.argv[1:]


def patch():
    if library == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    else:
        importlib.import_module("eventlet").monkey_patch()


if moment == "before":
    patch()
from spike_auth import Client  # noqa: E402

if moment == "after":
    patch()
green = importlib.import_module(library)


def seen(what: str) -> None:
    print(what, flush=True)


def user_of(token: str) -> str:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["sub"]


def at_once(users: list[str]) -> list[str]:
    waiting = [green.spawn(client.token, user) for user in users]
    return [each.get() if library == "gevent" else each.wait() for each in waiting]


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
