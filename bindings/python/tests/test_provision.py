"""The window of started calls, and the file that remembers what is done."""

from __future__ import annotations

import gc
import os
import select
import threading
from itertools import count
from pathlib import Path

import pytest

from helpers import client_of, in_flight, user_of, wait_until
from spike_auth import Cancelled, Client, ClientClosed, InvalidInput, Status, _provision
from spike_auth._command.state import BLOCK, OtherInput, State, StateError
from spike_auth._provision import Window
from support.project import counters


def users(*ids: str):
    return enumerate(each.encode() for each in ids)


def many(number: int):
    return users(*(f"user.{each}" for each in range(number)))


def results(client, given, concurrency=8, **more):
    """The status, or the token, of each position."""
    window = Window(client, given, concurrency=concurrency, **more)
    ended = [outcome for batch in window.outcomes() for outcome in batch]
    found = {position: error.status if error else token for position, error, token in ended}
    assert len(found) == len(ended)
    return found


def test_every_user_ends_once(own_client, own_sandbox):
    assert results(own_client, many(500), 16) == dict.fromkeys(range(500), "")
    seen = counters(own_sandbox)
    assert seen["users"] == {f"user.{each}": 1 for each in range(500)}
    assert seen["max_in_flight"] <= 16


def test_tokens_leave_only_if_they_are_wanted(own_client):
    found = results(own_client, users("alice", "bob"), wants_tokens=True)
    assert [user_of(found[0]), user_of(found[1])] == ["alice", "bob"]
    assert results(own_client, users("alice", "bob"), wants_tokens=True) == found  # from the cache
    for given in (users("alice", "bob"), users("carol")):
        window = Window(own_client, given, concurrency=8)
        assert {token for batch in window.outcomes() for _, _, token in batch} == {""}
        assert not any(window._buffers.text.raw)


def test_a_cached_token_starts_no_call(own_client, own_sandbox, monkeypatch):
    results(own_client, many(3000))
    requests = counters(own_sandbox)["requests"]
    monkeypatch.setattr(Window, "_start", None)
    assert results(own_client, many(3000), 1) == dict.fromkeys(range(3000), "")
    assert counters(own_sandbox)["requests"] == requests


def test_failures_have_their_own_positions(sandbox):
    with client_of(sandbox, max_attempts=1) as client:
        given = users("alice", "fault.status.403", "a b", "", "fault.status.500", "fault.empty", "x" * 129, "bob")
        assert results(client, given) == {
            0: "",
            1: Status.FORBIDDEN,
            2: Status.INVALID_USER_ID,
            3: Status.INVALID_USER_ID,
            4: Status.SERVER_ERROR,
            5: Status.INVALID_RESPONSE,
            6: Status.INVALID_USER_ID,
            7: "",
        }


def test_a_timeout_is_that_of_each_call(own_client):
    assert results(own_client, users("fault.stall", "alice"), timeout=0.3) == {0: Status.TIMEOUT, 1: ""}


def test_the_users_are_read_as_they_are_needed(own_client):
    read = count()
    window = Window(own_client, ((each, f"user.{next(read)}".encode()) for each in count()), concurrency=8)
    ended = 0
    for batch in window.outcomes():
        ended += len(batch)
        assert next(read) - ended <= 8 + 100  # next() counts here too
        if ended > 100:
            break
    assert own_client.stats().pending <= 8


def test_nothing_is_left_when_it_is_closed(own_client, own_sandbox):
    window = Window(own_client, users(*(f"fault.stall.{each}" for each in range(20))), concurrency=20)
    batches = window.outcomes()
    next(batches)
    wait_until(lambda: in_flight(own_sandbox) == 20)
    assert own_client.stats().pending == 20
    batches.close()
    assert own_client.stats().pending == 0
    wait_until(lambda: in_flight(own_sandbox) == 0)


def test_an_exception_of_the_consumer_ends_it(own_client):
    def consume():
        for _ in Window(own_client, users("fault.stall"), concurrency=1).outcomes():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    gc.collect()
    assert own_client.stats().pending == 0


def test_stop_starts_no_more(own_client, own_sandbox):
    window = Window(own_client, many(10_000), concurrency=8)
    ended = 0
    for batch in window.outcomes():
        ended += len(batch)
        window.stop()
    assert 0 < counters(own_sandbox)["requests"] == ended <= 8 + 32


def test_a_429_is_a_pause(own_sandbox):
    slow = [f"fault.delay.300.{each}" for each in range(4)]
    given = users(*slow, "fault.status.429.and.retry-after.1.x1", *(f"user.{each}" for each in range(50)))
    with client_of(own_sandbox, max_attempts=1) as client:
        window = Window(client, given, concurrency=5)
        ended, ended_while_paused = [], 0
        for batch in window.outcomes():
            ended += batch
            ended_while_paused += len(batch) if window.paused_for else 0
        assert not window.paused_for
    assert sorted(outcome.position for outcome in ended) == [*range(55)]
    assert all(outcome.error is None for outcome in ended)
    assert ended_while_paused >= 4  # those under way went on
    assert counters(own_sandbox)["requests"] == 56


def test_a_429_is_an_outcome_after_ten_calls(own_sandbox, monkeypatch):
    monkeypatch.setattr(_provision, "_PAUSE_SECONDS", 0.01)
    with client_of(own_sandbox, max_attempts=1) as client:
        assert results(client, users("fault.status.429", "alice")) == {0: Status.RATE_LIMITED, 1: ""}
    assert counters(own_sandbox)["users"] == {"fault.status.429": 10, "alice": 1}


def test_a_rate_limit_that_leaves_no_time_is_a_pause(own_sandbox):
    # A hundred calls at once, of which half have time for their turn.
    with client_of(own_sandbox, max_rate=100) as client:
        found = results(client, many(100), 100, timeout=0.5)
    assert len(found) == 100
    # The turn of one may be so late that the rest of its time is too short.
    assert {*found.values()} <= {"", Status.TIMEOUT}
    assert [*found.values()].count("") > 80


def test_it_works_in_any_thread_and_without_poll(own_client, monkeypatch):
    monkeypatch.delattr(select, "poll")
    found = {}
    threads = [threading.Thread(target=lambda: found.update(results(own_client, many(200)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == dict.fromkeys(range(200), "")


def test_closing_the_client_is_raised(own_client, own_sandbox):
    batches = Window(own_client, users("fault.stall", "fault.stall.2"), concurrency=2).outcomes()
    next(batches)
    own_client.close()
    with pytest.raises(ClientClosed):
        [*batches]


def test_a_raised_error_does_not_keep_the_client(own_sandbox, freed):
    gc.disable()
    try:
        without_key = Client(9999, base_url=own_sandbox["http"])
        with pytest.raises(InvalidInput):
            results(without_key, users("alice"))
        without_key.close()
        closed = client_of(own_sandbox)
        batches = Window(closed, users("fault.stall"), concurrency=1).outcomes()
        next(batches)
        closed.close()
        with pytest.raises(ClientClosed):
            [*batches]
        del batches, closed, without_key
        assert len(freed) == 2
    finally:
        gc.enable()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_cannot_go_on(own_client):
    batches = Window(own_client, users("fault.stall", "fault.delay.500"), concurrency=2).outcomes()
    ended = next(batches)
    child = os.fork()
    if not child:
        try:
            [*batches]
        except Cancelled:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    while not ended:
        ended = next(batches)
    assert ended == [(1, None, "")]  # the parent does
    batches.close()


IDS = [f"user.{each}".encode() for each in range(BLOCK + 100)]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state")


def run_state(path, ids, *, done=(), failed=()):
    """One run over the ids, in which some rows end. Returns what it had to do."""
    state, todo = State(path), []
    try:
        for block in range(len(ids) // BLOCK + 1):
            part = ids[block * BLOCK : (block + 1) * BLOCK]
            todo += [block * BLOCK + row for row in state.admit(block, part)]
        state.end_at(len(ids))
        for position in (*done, *failed):
            state.note(position, is_done=position in done)
        state.flush()
        return todo
    finally:
        state.close()


def test_done_rows_are_remembered(path):
    done = {0, 7, 8, BLOCK - 1, BLOCK, BLOCK + 99}
    assert run_state(path, IDS, done=done, failed={1, BLOCK + 1}) == [*range(len(IDS))]
    left = [each for each in range(len(IDS)) if each not in done]
    assert run_state(path, IDS, done=left) == left
    assert run_state(path, IDS) == []


def test_blank_rows_are_never_to_be_done(path):
    assert run_state(path, [b"", b"alice", b""], done={1}) == [1]
    assert run_state(path, [b"", b"alice", b""]) == []


def test_an_input_may_grow(path):
    run_state(path, IDS[:50], done={3})
    assert run_state(path, IDS[:60], done={55}) == [each for each in range(60) if each != 3]
    assert run_state(path, IDS) == [each for each in range(len(IDS)) if each not in {3, 55}]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (IDS[1:], f"rows 1 to {BLOCK} are not those"),
        (IDS[:BLOCK] + IDS[BLOCK + 1 :], f"rows {BLOCK + 1} to {BLOCK + 100} are not those"),
        ([*IDS[:-1], b""], f"rows {BLOCK + 1} to {BLOCK + 100} are not those"),
        (IDS[:-1], f"rows {BLOCK + 1} to {BLOCK + 100} are not those"),
        (IDS[: BLOCK - 1], f"rows 1 to {BLOCK} are not those"),
        ([b"user.0user.1", b"", *IDS[2:]], f"rows 1 to {BLOCK} are not those"),
    ],
)
def test_another_input_is_refused(path, ids, words):
    run_state(path, IDS, done={5})
    before = Path(path).read_bytes()
    with pytest.raises(OtherInput, match=words):
        run_state(path, ids)
    assert Path(path).read_bytes() == before


def test_a_shorter_input_is_refused(path):
    run_state(path, IDS)
    with pytest.raises(OtherInput, match=f"more rows than the input's {BLOCK}"):
        state = State(path)
        try:
            state.admit(0, IDS[:BLOCK])
            state.end_at(BLOCK)
        finally:
            state.close()


@pytest.mark.parametrize("content", [b"user.1\nuser.2\n", b"\0" * 5000, b"x", b"spike_auth provision"])
def test_another_file_is_refused_and_kept(path, content):
    Path(path).write_bytes(content)
    with pytest.raises(StateError, match="no state of this command, and was not changed"):
        State(path)
    assert Path(path).read_bytes() == content


def test_another_version_is_refused_and_kept(path):
    run_state(path, IDS)
    content = bytearray(Path(path).read_bytes())
    content[24] += 1
    Path(path).write_bytes(content)
    with pytest.raises(StateError, match="another version"):
        State(path)
    assert Path(path).read_bytes() == content


@pytest.mark.parametrize(("offset", "value"), [(1024, 0), (1024 + 1, 255), (2 * 1024 + 36 + 13, 255)])
def test_a_broken_record_is_refused(path, offset, value):
    run_state(path, IDS)
    content = bytearray(Path(path).read_bytes())
    content[offset : offset + 2] = bytes([value, value])
    Path(path).write_bytes(content)
    with pytest.raises(StateError, match="is broken where rows"):
        run_state(path, IDS)


def test_half_a_record_is_as_none(path):
    run_state(path, IDS, done={5, BLOCK})
    os.truncate(path, Path(path).stat().st_size - 1)
    assert run_state(path, IDS) == [each for each in range(len(IDS)) if each != 5]


def test_one_command_at_once(path):
    state = State(path)
    with pytest.raises(StateError, match="another command uses"):
        State(path)
    state.close()
    State(path).close()


@pytest.mark.parametrize(
    ("name", "words"), [("", "Is a directory"), ("absent/state", "No such file"), ("/dev/null", "is not a file")]
)
def test_paths_that_are_no_file(tmp_path, name, words):
    with pytest.raises(StateError, match=words):
        State(str(tmp_path / name))


def test_it_holds_no_id(path):
    run_state(path, IDS, done=range(100))
    assert b"user" not in Path(path).read_bytes()


def test_only_open_blocks_are_in_memory(path):
    state = State(path)
    for block in range(50):
        for row in state.admit(block, IDS[:BLOCK]):
            state.note(block * BLOCK + row, is_done=row % 2 == 0)
        state.flush()
        assert not state._open
    state.close()
