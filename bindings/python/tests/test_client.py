"""A client: its tokens, its counters, its buffers, and its end."""

from __future__ import annotations

import copy
import gc
import pickle
import signal
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import spike_auth
from helpers import client_of, environment, script, settings_of, user_of
from spike_auth import Client, ClientClosed, InvalidInput, Rejected, Stats, Status, _buffers
from spike_auth._prototypes import TOKEN_SIZE
from support import project


def test_tokens_are_cached(own_sandbox, own_client):
    first = own_client.token("alice")
    assert user_of(first) == "alice"
    assert own_client.token("alice") == first
    assert own_client.authorization("alice") == f"Bearer {first}"
    assert own_client.exchange("alice") != first
    assert own_client.token("alice", timeout=1) == first
    assert user_of(own_client.token("bob")) == "bob"
    assert project.counters(own_sandbox)["users"] == {"alice": 2, "bob": 1}


def test_invalidate_forget_and_clear(own_client):
    first = own_client.token("alice")
    own_client.invalidate("alice", "another.token")
    assert own_client.token("alice") == first
    own_client.invalidate("alice", first)
    second = own_client.token("alice")
    own_client.forget("alice")
    third = own_client.token("alice")
    assert len({first, second, third}) == 3
    own_client.clear()
    assert own_client.stats().entries == 0


def test_stats(own_client):
    assert own_client.stats() == Stats(**dict.fromkeys(Stats.__dataclass_fields__, 0))
    own_client.token("alice")
    own_client.token("alice")
    own_client.exchange("alice")
    own_client.invalidate("alice", own_client.token("alice"))
    stats = own_client.stats()
    assert (stats.hits, stats.misses, stats.exchanges, stats.requests) == (2, 1, 1, 1)
    assert (stats.invalidations, stats.entries, stats.bytes, stats.forks) == (1, 0, 0, 0)
    with pytest.raises(AttributeError):
        stats.hits = 1


def test_the_longest_token(client):
    for call in (client.exchange, client.token, client.token):
        assert len(call("fault.max-token")) == TOKEN_SIZE - 1


def test_a_client_without_a_key(sandbox, client):
    signature = client.sign("alice")
    with Client(**settings_of(sandbox) | {"hmac_key": None}) as keyless:
        assert keyless.exchange("alice", signature.upper()) == client.exchange("alice")
        with pytest.raises(Rejected):
            keyless.exchange("bob", signature)
        for call in (keyless.sign, keyless.token, keyless.exchange, lambda user: keyless.sign_many([user])):
            with pytest.raises(InvalidInput) as caught:
                call("alice")
            assert caught.value.status is Status.KEY_REQUIRED


def test_a_closed_client(sandbox):
    client = client_of(sandbox)
    token = client.token("alice")
    with pytest.raises(ZeroDivisionError), client as same:
        assert same is client
        1 / 0
    client.close()
    for call in (
        lambda: client.token("alice"),
        lambda: client.authorization("alice"),
        lambda: client.exchange("alice"),
        lambda: client.exchange("alice", "0" * 64),
        lambda: client.sign("alice"),
        lambda: client.sign_many(["alice"]),
        lambda: client.invalidate("alice", token),
        lambda: client.forget("alice"),
        lambda: client.forget_shared("alice"),
        lambda: client.set_hmac_key("key"),
        client.check_store,
        client.diagnose,
        client.clear,
        client.stats,
    ):
        with pytest.raises(ClientClosed, match="was closed") as caught:
            call()
        assert caught.value.status is Status.CLOSED
    assert repr(client) == "<spike_auth.Client (closed)>"


def test_a_client_shows_no_secret(client):
    client.token("alice")
    assert repr(client) == "<spike_auth.Client (open)>"
    shown = f"{client!r} {client} {vars(client)}"
    assert project.KEY not in shown
    assert "eyJ" not in shown


def test_a_client_cannot_be_copied_or_pickled(client):
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"Client cannot be copied or pickled: .*from_env\(\)"):
            attempt(client)


# ---- lifetime


def test_a_client_is_freed_with_its_last_reference(sandbox, freed):
    client = client_of(sandbox)
    value, handle = client._handle.value, weakref.ref(client._handle)
    client.token("alice")
    gc.disable()  # a reference cycle of the error would keep the handle
    try:
        with pytest.raises(Rejected):
            client.exchange("fault.status.403")
        del client
        assert (freed, handle()) == ([value], None)
    finally:
        gc.enable()
    closed = client_of(sandbox)
    value = closed._handle.value
    closed.close()
    assert freed[1:] == [value]


def test_a_client_that_cannot_be_made_leaves_nothing(freed):
    with pytest.raises(spike_auth.ConfigurationError):
        Client()
    gc.collect()
    assert freed == []
    assert repr(Client.__new__(Client)) == "<spike_auth.Client (closed)>"


def test_an_error_keeps_no_handle(sandbox):
    client = client_of(sandbox)
    handle = weakref.ref(client._handle)
    kept = []
    for call in (
        lambda: client.forget("a b"),
        lambda: client.invalidate("alice", ""),
        lambda: client.sign("a b"),
        lambda: client.sign_many(["a b"]),
        lambda: client.token("a b"),
        lambda: client.exchange("fault.status.403"),
    ):
        with pytest.raises(spike_auth.SpikeAuthError) as caught:
            call()
        kept.append(caught.value)
    assert handle() is not None
    client.close()
    assert handle() is None


# ---- buffers


def test_buffers_are_wiped_and_reused(client):
    def work() -> None:
        client.sign("alice")
        (buffers,) = _buffers._free.stack
        for call in (client.exchange, client.token, client.token, client.sign):
            call("fault.max-token")
            assert _buffers._free.stack == [buffers]
            assert bytes(buffers.text.raw) == bytes(TOKEN_SIZE)

    with ThreadPoolExecutor(1) as pool:  # the main thread's calls that wait use a helper's buffers
        pool.submit(work).result()


def test_a_call_inside_another_has_its_own_buffers(client):
    """A signal handler runs between two bytecodes of the outer call, at any of them."""
    tokens = {user: client.token(user) for user in ("alice", "bob")}
    signatures = {user: client.sign(user) for user in ("alice", "bob")}
    seen = []

    def handler(*_: object) -> None:
        seen.append((client.token("bob"), client.sign("bob")))

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while len(seen) < 200:
            assert client.token("alice") == tokens["alice"]
            assert client.sign("alice") == signatures["alice"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert set(seen) == {(tokens["bob"], signatures["bob"])}


def test_calls_make_no_ctypes_types(client):
    import ctypes

    def types() -> int:
        gc.collect()
        return len(ctypes.Array.__subclasses__()) + len(ctypes.Structure.__subclasses__())

    client.sign_many(["alice"])
    before = types()
    for count in (2, 3, 77):
        client.sign_many(["alice"] * count)
        client.exchange("alice")
        client.token("alice")
        client.stats()
    assert types() == before


# ---- the end of the interpreter

CALL_IN_A_THREAD = """
import threading, time
threading.Thread(target=client.exchange, args=("fault.stall",), daemon=True).start()
while not client.stats(): pass
time.sleep(0.1)
"""


@pytest.mark.parametrize(
    "more", ["", "del client", "client.close()", "client.cycle = client; del client", CALL_IN_A_THREAD]
)
def test_the_end_of_the_interpreter_prints_nothing(sandbox, more):
    code = f"from spike_auth import Client\nclient = Client.from_env()\nprint(len(client.token('alice')))\n{more}"
    assert script(code, environment(sandbox)) == "119\n"


# A free-threaded interpreter clears the globals of modules while their objects are in use.
WITHOUT_GLOBALS = """
import os, sys
from spike_auth import Client, _async, _calls, _client, _prototypes
client, queue, shared = Client.from_env(), _calls.Queue(), _async._SharedCall(_calls.new_call(0).value)
descriptor, config = queue.fd, _prototypes.ConfigHandle()
for name, module in [*sys.modules.items()]:
    if name.startswith("spike_auth"):
        vars(module).update(dict.fromkeys((each for each in vars(module) if not each.startswith("__"))))
del client, queue, shared, config
print(os.path.exists(f"/proc/self/fd/{descriptor}"))
"""


def test_handles_are_freed_without_the_globals_of_their_modules(sandbox):
    assert script(WITHOUT_GLOBALS, environment(sandbox)) == "False\n"


GARBAGE = """
import atexit, gc
from spike_auth import Client

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
    def __del__(self): print(len(client.sign("alice")), len(client.exchange("bob")) > 64)
client, late = Client.from_env(), Late()
client.token("alice")
atexit.register(lambda: print("at exit", len(client.token("alice"))))
"""


def test_a_client_works_in_garbage_and_while_the_interpreter_ends(sandbox):
    # The order of the last two is the interpreter's.
    collected, at_exit, *ended = script(GARBAGE, environment(sandbox)).splitlines()
    assert (collected, at_exit) == ("64 1 True", "at exit 119")
    assert sorted(ended) == ["64 1 True", "64 True"]
