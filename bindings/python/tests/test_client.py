"""A client: its tokens, its counters, its end, and what it leaves behind."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import spike_auth
from helpers import client_of, environment, script, settings_of, user_of
from spike_auth import Client, ClientClosed, Rejected, Stats, Status, _buffers
from spike_auth._prototypes import TOKEN_SIZE, ClientHandle
from support import project


def test_tokens_are_kept(own_sandbox, own_client):
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
    assert second != first
    own_client.forget("alice")
    third = own_client.token("alice")
    assert third not in {first, second}
    own_client.clear()
    assert own_client.stats().entries == 0
    own_client.invalidate("alice", own_client.token("alice"))
    with pytest.raises(Rejected) as caught:
        own_client.token("alice")
    assert (caught.value.status, caught.value.retryable) == (Status.TOKEN_REJECTED, True)
    assert 0 < caught.value.retry_after <= 5


def test_stats(own_client):
    assert own_client.stats() == Stats(**dict.fromkeys(Stats.__dataclass_fields__, 0))
    own_client.token("alice")
    own_client.token("alice")
    own_client.authorization("alice")
    own_client.exchange("alice")
    own_client.invalidate("alice", own_client.token("alice"))
    stats = own_client.stats()
    assert (stats.hits, stats.misses, stats.exchanges, stats.requests) == (3, 1, 1, 1)
    assert (stats.invalidations, stats.entries, stats.bytes, stats.forks) == (1, 0, 0, 0)
    with pytest.raises(AttributeError):
        stats.hits = 1
    from spike_auth._prototypes import StatsStruct

    assert [name for name, _ in StatsStruct._fields_][:-1] == [*Stats.__dataclass_fields__]


def test_the_longest_token(client):
    for call in (client.exchange, client.token, client.token):
        assert len(call("fault.max-token")) == TOKEN_SIZE - 1


def test_a_signature_made_elsewhere(sandbox, client):
    signature = client.sign("alice")
    with Client(**settings_of(sandbox) | {"hmac_key": None}) as keyless:
        assert keyless.exchange("alice", signature) == client.exchange("alice")
        with pytest.raises(Rejected) as caught:
            keyless.exchange("bob", signature)
    assert (caught.value.status, caught.value.http_status) == (Status.UNAUTHORIZED, 401)


def test_after_close(sandbox):
    client = client_of(sandbox)
    token = client.token("alice")
    with client as same:
        assert same is client
    client.close()
    client.close()
    calls = [
        lambda: client.token("alice"),
        lambda: client.authorization("alice"),
        lambda: client.exchange("alice"),
        lambda: client.exchange("alice", "0" * 64),
        lambda: client.sign("alice"),
        lambda: client.sign_many(["alice"]),
        lambda: client.invalidate("alice", token),
        lambda: client.forget("alice"),
        client.clear,
        client.stats,
    ]
    for call in calls:
        with pytest.raises(ClientClosed, match="was closed") as caught:
            call()
        assert caught.value.status is Status.CLOSED
    assert repr(client) == "<spike_auth.Client (closed)>"


def test_a_client_closes_when_its_block_fails(sandbox):
    with pytest.raises(ZeroDivisionError), client_of(sandbox) as client:
        1 / 0
    with pytest.raises(ClientClosed):
        client.token("alice")


def test_a_client_shows_no_secret(client):
    client.token("alice")
    assert repr(client) == "<spike_auth.Client (open)>"
    shown = f"{client!r} {client} {vars(client)}"
    assert project.KEY not in shown
    assert "eyJ" not in shown


def test_a_client_is_neither_copied_nor_pickled(client):
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"Client cannot be copied or pickled: .*from_env\(\)"):
            attempt(client)


def test_a_client_that_is_dropped_is_freed(sandbox, monkeypatch):
    gc.collect()  # the clients of other tests
    freed = []
    free = ClientHandle.free
    monkeypatch.setattr(ClientHandle, "free", lambda address: (freed.append(address), free(address)))
    client = client_of(sandbox)
    value, handle = client._handle.value, weakref.ref(client._handle)
    client.token("alice")
    del client
    gc.collect()
    assert (freed, handle()) == ([value], None)
    closed = client_of(sandbox)
    value = closed._handle.value
    closed.close()
    assert freed[1:] == [value]


def test_a_client_that_cannot_be_made_leaves_nothing(monkeypatch):
    gc.collect()  # the clients of other tests
    freed = []
    monkeypatch.setattr(ClientHandle, "free", freed.append)
    with pytest.raises(spike_auth.ConfigurationError):
        Client()
    gc.collect()
    assert freed == []
    assert repr(Client.__new__(Client)) == "<spike_auth.Client (closed)>"


def test_buffers_are_wiped_and_used_again(client):
    client.token("alice")
    client.sign("alice")
    free = _buffers._rooms.free
    assert len(free) == 1
    before = free[0]
    client.token("fault.max-token")
    client.token("fault.max-token")
    client.exchange("alice")
    client.sign("alice")
    assert free == [before]
    assert bytes(before.text.raw) == bytes(TOKEN_SIZE)


def test_buffers_of_exchanges_are_wiped_too(client):
    def work() -> bytes:
        client.exchange("fault.max-token")
        (room,) = _buffers._rooms.free
        return bytes(room.text.raw)

    with ThreadPoolExecutor(1) as pool:  # in the main thread it is the helper's buffer
        assert pool.submit(work).result() == bytes(TOKEN_SIZE)


def test_an_error_that_is_kept_keeps_no_handle(sandbox):
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


def test_a_call_inside_another_has_a_buffer_of_its_own(client):
    """A signal's handler runs between two steps of the outer call, at any of them."""
    import signal

    tokens = {user: client.token(user) for user in ("alice", "bob")}
    seen = []

    def handler(*_: object) -> None:
        seen.append((client.token("bob"), client.sign("bob")))

    signatures = {user: client.sign(user) for user in ("alice", "bob")}
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


def test_no_type_of_ctypes_is_made_by_a_call(client):
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


@pytest.mark.parametrize("more", ["", "del client", "client.close()", "client.cycle = client; del client"])
def test_nothing_is_said_at_the_interpreters_end(sandbox, more):
    code = f"from spike_auth import Client\nclient = Client.from_env()\nprint(len(client.token('alice')))\n{more}"
    assert script(code, environment(sandbox)) == "119\n"


def test_nothing_is_said_where_a_thread_is_still_inside_a_call(sandbox):
    code = """
import threading, time
from spike_auth import Client
client = Client.from_env()
threading.Thread(target=client.exchange, args=("fault.stall",), daemon=True).start()
while not client.stats(): pass
time.sleep(0.1)
print("done")
"""
    assert script(code, environment(sandbox)) == "done\n"


def test_a_client_works_while_the_interpreter_ends(sandbox):
    code = """
import atexit
from spike_auth import Client
client = Client.from_env()
atexit.register(lambda: print(len(client.token("alice"))))
class Late:
    def __del__(self): print(len(client.sign("alice")))
late = Late()
"""
    assert script(code, environment(sandbox)) == "119\n64\n"
