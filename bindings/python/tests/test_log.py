"""The logger `spike_auth`: a line for each exchange and for each call that fails by itself, and none for a hit."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import async_client_of, client_of, environment, python, script, settings_of, until_in_flight, wait_until
from spike_auth import Client, InvalidInput, SpikeAuthError, Status
from spike_auth._provision import Window
from support import project

LOGGER = logging.getLogger("spike_auth")
EXCHANGE, FAILED, KEPT = "exchange", "call failed", "renewal failed, old token kept"


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def take(self) -> list[tuple[str, str, str, int]]:
        """Level, event, status and attempts of each record, which are in its text too."""
        taken = []
        while self.records:
            record = self.records.pop(0)
            event, _, rest = record.getMessage().partition(": ")
            assert rest == f"status={record.status} attempts={record.attempts} ms={record.ms}"
            assert record.name == "spike_auth"
            assert isinstance(record.ms, int)
            taken.append((record.levelname, event, record.status, record.attempts))
        return taken


@pytest.fixture
def kept(monkeypatch):
    handler = Kept()
    monkeypatch.setattr(LOGGER, "propagate", False)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    yield handler
    LOGGER.setLevel(logging.NOTSET)
    LOGGER.removeHandler(handler)


class Filter(logging.Filter):
    """Before any handler, and its lock."""

    def __init__(self, run) -> None:
        super().__init__()
        self.run = run

    def filter(self, record: logging.LogRecord) -> bool:
        self.run()
        return True


@pytest.fixture
def before_each_line():
    filters = []

    def add(run) -> None:
        filters.append(Filter(run))
        LOGGER.addFilter(filters[-1])

    yield add
    for each in filters:
        LOGGER.removeFilter(each)


def provision(client, *users: str):
    window = Window(client, enumerate(user.encode() for user in users), concurrency=8)
    return {position: error for batch in window.outcomes() for position, error, _ in batch}


OK = ("DEBUG", EXCHANGE, "OK", 1)


def test_each_exchange_has_a_line_and_a_hit_has_none(own_client, kept):
    for call in (
        lambda: own_client.token("alice"),
        lambda: own_client.authorization("bob"),
        lambda: own_client.exchange("alice"),
        lambda: own_client.exchange("alice", own_client.sign("alice")),
        lambda: provision(own_client, "carol"),
    ):
        call()
        assert kept.take() == [OK]
    own_client.token("alice")
    own_client.authorization("bob")
    provision(own_client, "alice", "bob", "carol")
    assert kept.take() == []
    with ThreadPoolExecutor(1) as pool:  # waits otherwise than the main thread
        pool.submit(own_client.token, "dave").result()
    assert kept.take() == [OK]


async def test_so_for_asyncio(own_sandbox, kept):
    async with async_client_of(own_sandbox, max_attempts=1) as client:
        for _ in range(2):
            await client.token("alice")
            assert kept.take() in ([OK], [])
        await client.exchange("alice")
        assert kept.take() == [OK]
        with pytest.raises(SpikeAuthError):
            await client.token("fault.status.500")
        assert kept.take() == [("WARNING", FAILED, "SERVER_ERROR", 1)]


def test_each_failure_has_a_line(sandbox, kept):
    with client_of(sandbox, max_attempts=2) as client:
        for user, status, attempts in [
            ("fault.status.500", "SERVER_ERROR", 2),
            ("fault.status.403", "FORBIDDEN", 1),
            ("fault.empty", "INVALID_RESPONSE", 1),
        ]:
            with pytest.raises(SpikeAuthError):
                client.token(user)
            assert kept.take() == [("WARNING", FAILED, status, attempts)]
        assert {*provision(client, "fault.status.500.a", "fault.status.500.b", "alice")} == {0, 1, 2}
        assert sorted(kept.take()) == [OK, *[("WARNING", FAILED, "SERVER_ERROR", 2)] * 2]
        with pytest.raises(TimeoutError):
            client.exchange("fault.stall", timeout=0.3)
        assert kept.records[0].ms >= 299
        assert kept.take() == [("WARNING", FAILED, "TIMEOUT", 1)]
    closed = settings_of(sandbox, base_url="http://127.0.0.1:1", max_attempts=1)
    with Client(**closed) as client, pytest.raises(SpikeAuthError):
        client.token("alice")
    assert kept.take() == [("WARNING", FAILED, "CONNECT", 0)]


def test_a_retry_is_no_line_of_its_own(own_client, kept):
    own_client.token("fault.status.500.x1")
    assert kept.take() == [("DEBUG", EXCHANGE, "OK", 2)]


async def test_what_the_caller_does_itself_has_no_line(own_sandbox, kept):
    client = client_of(own_sandbox)
    with pytest.raises(InvalidInput):
        client.token("not valid")
    client.close()
    with pytest.raises(SpikeAuthError):
        client.token("alice")
    with Client(1) as keyless, pytest.raises(InvalidInput):
        keyless.token("alice")
    async with async_client_of(own_sandbox) as client:
        task = asyncio.create_task(client.token("fault.delay.5000"))
        await until_in_flight(own_sandbox, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tasks = [asyncio.create_task(client.exchange("fault.delay.5000")) for _ in range(3)]
        await asyncio.sleep(0.1)
    for task in tasks:
        with pytest.raises(SpikeAuthError) as raised:
            await task
        assert raised.value.status is Status.CLOSED
    assert kept.take() == []


@pytest.mark.parametrize(("fault", "line"), [("", OK), (".and.status.422", ("WARNING", FAILED, "REFUSED", 1))])
def test_calls_that_share_an_exchange_have_one_line(own_sandbox, kept, fault, line):
    user = f"fault.delay.500{fault}.together"
    shared = []

    def get() -> None:
        try:
            client.token(user)
        except SpikeAuthError as error:
            shared.append(error.shared)

    async def gather() -> None:
        async with async_client_of(own_sandbox) as other:
            await asyncio.gather(*(other.token(user) for _ in range(20)), return_exceptions=True)

    with client_of(own_sandbox) as client, ThreadPoolExecutor(20) as pool:
        [*pool.map(lambda _: get(), range(20))]
        assert client.stats().exchanges == 1
    assert kept.take() == [line]
    assert sorted(shared) == ([False] + [True] * 19 if fault else [])
    asyncio.run(gather())
    assert kept.take() == [line]


def test_a_renewal_that_fails_has_a_line(own_sandbox, kept):
    with client_of(own_sandbox, cache_ttl=1, max_attempts=1) as client:
        first = {user: client.token(user) for user in ("alice", "bob")}
        assert kept.take() == [OK, OK]
        time.sleep(1.05)
        for user in first:
            project.set_fault(own_sandbox, user, "status:500")
        assert client.token("alice") == first["alice"]
        assert kept.take() == [("WARNING", KEPT, "SERVER_ERROR", 1)]
        assert client.token("alice") == first["alice"]  # a hit, in the pause
        assert kept.take() == []
        assert provision(client, "bob") == {0: None}
        assert kept.take() == [("WARNING", KEPT, "SERVER_ERROR", 1)]


def test_a_pause_of_provisioning_has_the_lines_of_its_exchanges(own_sandbox, kept):
    with client_of(own_sandbox, max_attempts=1) as client:
        users = ["fault.status.429.and.retry-after.1.x1", *(f"user-{number}" for number in range(30))]
        assert {*provision(client, *users).values()} == {None}
    lines = kept.take()
    assert lines.count(OK) == 31
    assert lines.count(("WARNING", FAILED, "RATE_LIMITED", 1)) == len(lines) - 31 == 1


def test_users_that_provisioning_holds_back_have_one_line(own_sandbox, kept):
    # They fail without a request, because the pause is longer than their timeout, and start again after it.
    with client_of(own_sandbox, max_attempts=1, timeout=1) as client:
        with pytest.raises(SpikeAuthError):
            client.token("fault.status.429.and.retry-after.2.x1")
        assert kept.take() == [("WARNING", FAILED, "RATE_LIMITED", 1)]
        began = time.monotonic()
        assert {*provision(client, *"abcde").values()} == {None}
        assert time.monotonic() - began > 1
    assert kept.take() == [OK] * 5


def test_only_the_level_that_is_wanted_is_logged(own_client, kept):
    LOGGER.setLevel(logging.INFO)
    own_client.token("alice")
    with pytest.raises(SpikeAuthError):
        own_client.token("fault.status.403")
    assert kept.take() == [("WARNING", FAILED, "FORBIDDEN", 1)]


def test_it_is_silent_unless_the_program_configures_logging(own_sandbox):
    code = """
import logging, spike_auth
{}
client = spike_auth.Client.from_env()
client.token("alice")
try:
    client.token("fault.status.403")
except spike_auth.Rejected:
    print("rejected")
"""
    assert script(code.format(""), environment(own_sandbox)) == "rejected\n"
    done = python("-c", code.format("logging.basicConfig()"), env=environment(own_sandbox))
    assert re.fullmatch(r"WARNING:spike_auth:call failed: status=FORBIDDEN attempts=1 ms=\d+\n", done.stderr)


def test_what_a_handler_raises_costs_no_token(own_client, before_each_line, kept):
    seen = []

    def fail() -> None:
        seen.append(1)
        raise RuntimeError("of a filter")

    before_each_line(fail)
    assert own_client.token("alice")
    assert own_client.exchange("alice")
    assert provision(own_client, "bob") == {0: None}
    with pytest.raises(SpikeAuthError) as raised:
        own_client.token("fault.status.403")
    assert raised.value.status is Status.FORBIDDEN
    assert raised.value.__context__ is None
    assert (len(seen), kept.take()) == (4, [])


def test_a_ctrl_c_in_a_handler_arrives(own_client, before_each_line, kept):
    def interrupt() -> None:
        raise KeyboardInterrupt

    before_each_line(interrupt)
    with pytest.raises(KeyboardInterrupt):
        own_client.token("alice")
    assert own_client.token("alice")  # it is cached


def test_a_slow_handler_holds_up_no_other_call(own_client, before_each_line, kept):
    done = threading.Event()
    before_each_line(lambda: threading.current_thread().name == "slow" and done.wait(20))
    slow = threading.Thread(target=own_client.token, args=["alice"], name="slow")
    slow.start()
    wait_until(lambda: own_client.stats().entries == 1)
    assert own_client.token("alice")
    assert own_client.token("bob")
    assert slow.is_alive()
    done.set()
    slow.join()
    assert kept.take() == [OK, OK]


def test_a_handler_may_call_the_client(own_client, before_each_line, kept):
    inner = []
    before_each_line(lambda: inner or inner.append(1) or inner.append(own_client.token("bob")))
    assert own_client.token("alice")
    assert inner[1] == own_client.token("bob")
    assert kept.take() == [OK, OK]


def test_no_record_shows_a_secret(own_sandbox, kept):
    key, user = "canary-key-8d1f3b7e5a9c", "canary-user-5e7d9c1b3a"
    project.set_key(own_sandbox, key)
    with client_of(own_sandbox, hmac_key=key, max_attempts=1, cache_ttl=1) as client:
        token = client.token(user)
        secrets = [key, user, client.sign(user), *token.split(".")]
        time.sleep(1.05)
        project.set_fault(own_sandbox, user, "echo:422")
        assert client.token(user) == token  # its renewal has failed
        client.forget(user)
        project.set_fault(own_sandbox, user, "echo:401")
        with pytest.raises(SpikeAuthError):
            client.token(user)
        with pytest.raises(SpikeAuthError):
            client.exchange(user, client.sign(user))
        assert provision(client, user)[0]
    assert len(kept.records) == 5
    for record in kept.records:
        shown = f"{record.getMessage()} {vars(record)!r}"
        assert "attempts" in shown
        for secret in secrets:
            assert secret not in shown


async def test_the_frames_of_a_line_show_no_token(own_sandbox, before_each_line, kept):
    """Error trackers record the locals of these frames."""
    shown = []

    def look() -> None:
        frame = sys._getframe()
        while frame := frame.f_back:
            if "spike_auth" in frame.f_globals["__name__"]:
                shown.append(repr(frame.f_locals))

    before_each_line(look)
    with client_of(own_sandbox) as client:
        tokens = [client.token("alice"), client.exchange("alice")]
    async with async_client_of(own_sandbox) as async_client:
        tokens.append(await async_client.token("alice"))
    assert len(kept.take()) == 3
    assert len(shown) > 5
    for token in tokens:
        assert token[-20:] not in "".join(shown)


def test_children_of_a_fork_log(own_sandbox):
    code = """
import logging, os, signal, sys, threading, warnings
from spike_auth import Client
warnings.simplefilter("ignore", DeprecationWarning)
class Unbuffered(logging.Handler):  # the lock of a buffered stream stays locked in a child
    def emit(self, record):
        os.write(2, b"")
logging.basicConfig(level=logging.DEBUG, handlers=[Unbuffered()])
client = Client.from_env()
def work():
    while not over:
        client.exchange("busy")
over = []
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
for number in range(20):  # also while a thread holds a lock of logging
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        printer = logging.StreamHandler(sys.stdout)
        printer.setFormatter(logging.Formatter("%(levelname)s %(status)s %(attempts)d"))
        logging.getLogger("spike_auth").addHandler(printer)
        client.token(f"child-{number}")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over.append(1)
[thread.join() for thread in threads]
"""
    assert script(code, environment(own_sandbox)) == "DEBUG OK 1\n" * 20
