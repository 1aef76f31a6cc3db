"""Every status, every reply and every place gives the exception that a caller can do something about."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest

import spike_auth
from helpers import client_of, settings_of
from spike_auth import (
    Client,
    ClientClosed,
    ConfigurationError,
    ExchangeTimeout,
    InternalError,
    InvalidInput,
    LibraryLoadError,
    NetworkError,
    Rejected,
    SpikeAuthError,
    Status,
)
from spike_auth._errors import FAMILIES, error_from
from spike_auth._prototypes import ErrorStruct
from support import project
from support.project import KEY, ROOT

# (numbers, exception, the built-in that it also is)
TABLE = [
    ([1, 2, 3, 6, 8, 9, 10], "InvalidInput", ValueError),
    ([4, 5, 7, 11, 13, 20, 21], "ConfigurationError", ValueError),
    ([14], "ClientClosed", None),
    ([40, 41, 42, 44, 45], "NetworkError", ConnectionError),
    ([43], "ExchangeTimeout", TimeoutError),
    ([46], "Cancelled", None),
    ([60, 61, 62, 65, 68], "Rejected", None),
    ([63], "RateLimited", None),
    ([64], "ServerError", None),
    ([66, 67], "InvalidResponse", None),
    ([90, 91, 12, 15, 77, 1000, -1, 2**31 - 1, -(2**31)], "InternalError", None),
]


@pytest.mark.parametrize(("numbers", "name", "builtin"), TABLE)
def test_every_status_has_its_exception(numbers, name, builtin):
    for number in numbers:
        error = error_from(ErrorStruct(number, 429, 1500, 3, 1, "why — and what to do".encode()))
        assert type(error) is getattr(spike_auth, name)
        assert isinstance(error, SpikeAuthError)
        assert builtin is None or isinstance(error, builtin)
        assert (error.status, error.http_status, error.retry_after) == (number, 429, 1.5)
        assert (error.attempts, error.retryable) == (3, True)
        assert str(error) == "why — and what to do"
        bare = error_from(ErrorStruct(number, 0, -1, 0, 0, b""))
        assert (bare.http_status, bare.retry_after, bare.attempts, bare.retryable) == (None, None, 0, False)


def test_the_table_leaves_no_status_out():
    assert {number for numbers, _, _ in TABLE for number in numbers} >= {*map(int, Status)} - {0}


def test_an_unknown_status_has_a_name():
    status = error_from(ErrorStruct(77)).status
    assert (status.name, int(status), repr(status)) == ("UNKNOWN_77", 77, "<Status.UNKNOWN_77: 77>")
    with pytest.raises(ValueError, match="'TIMEOUT' is not a valid Status"):
        Status("TIMEOUT")


PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("number", [*map(int, Status), 15, 77, -1])
def test_a_status_can_be_pickled_and_copied(number):
    status = Status(number)
    twins = [pickle.loads(pickle.dumps(status, protocol)) for protocol in PROTOCOLS]
    for twin in (*twins, copy.copy(status), copy.deepcopy(status)):
        assert type(twin) is Status
        assert (twin, twin.name, twin.value, hash(twin)) == (number, status.name, number, hash(status))
        assert twin is status or number not in [*Status]


def test_a_status_is_pickled_by_its_number():
    """So that what one version of the package does not know, another one that reads it may."""
    for status in (Status.TIMEOUT, Status(77)):
        for protocol in PROTOCOLS:
            assert status.name.encode() not in pickle.dumps(status, protocol)


@pytest.mark.parametrize("status", [63, 77])
@pytest.mark.parametrize("family", [*FAMILIES, LibraryLoadError, SpikeAuthError])
def test_exceptions_can_be_pickled_and_copied(family, status):
    error = family("what", status=status, http_status=429, retry_after=2.5, retryable=True, attempts=3)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is family
        assert (str(twin), vars(twin)) == ("what", vars(error))
    assert family("what").status is family.statuses[0]


# ---- what the service and the network can do: the table of the C suite

C_TABLE = (ROOT / "tests" / "c" / "exchange.c").read_text()
ROWS = re.compile(r'(ROW|WAIT)\("([\w.-]+)", (\w+), (\d+), (\d+)\)')


def rows(name: str) -> list[tuple[str, Status, int | None, bool, float | None]]:
    block = re.search(rf"struct row {name}\[\] = {{(.*?)^}};", C_TABLE, re.DOTALL | re.MULTILINE)[1]
    found = []
    for macro, what, status, http_status, last in ROWS.findall(block):
        wait = macro == "WAIT"
        found.append(
            (what, Status[status], int(http_status) or None, wait or last == "1", int(last) / 1000 if wait else None)
        )
    assert len(found) == block.count("ROW(") + block.count("WAIT(")
    return found


def test_the_table_is_a_long_one():
    assert len(rows("REPLIES")) >= 50
    assert len(rows("PLACES")) >= 7


@pytest.mark.parametrize(("name", "key", "what"), [("REPLIES", "replies", "fault"), ("PLACES", "places", "place")])
def test_the_table_that_other_suites_read_says_the_same(name, key, what):
    vectors = json.loads((ROOT / "tests" / "vectors" / "faults.json").read_text())
    theirs = {row[what]: row for row in vectors[key]}
    for fault, status, http_status, retryable, retry_after in rows(name):
        row = theirs[fault]
        assert (row["status"], row["retryable"]) == (status.name, retryable), fault
        assert row.get("http_status", 0) == (http_status or 0), fault
        assert row.get("retry_after_ms", -1) == (-1 if retry_after is None else retry_after * 1000), fault


def check(error: SpikeAuthError, row) -> None:
    assert (error.status, error.http_status, error.retryable, error.retry_after) == row[1:]
    assert error.attempts == 1 or (error.attempts == 0 and error.http_status is None)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_reply(sandbox, scheme):
    for row in rows("REPLIES"):  # each with a client of its own: Retry-After holds all calls of one
        with client_of(sandbox, scheme, max_attempts=1, timeout=5) as client:
            with pytest.raises(SpikeAuthError) as caught:
                client.exchange(f"fault.{row[0]}")
            check(caught.value, row)


@pytest.mark.parametrize("row", rows("PLACES"), ids=lambda row: row[0])
def test_every_unusable_place(sandbox, row):
    place, _, fault = row[0].partition(".")
    url = sandbox[place][fault] if fault else sandbox[place]
    with Client(**settings_of(sandbox) | {"base_url": url}, max_attempts=1) as client:
        with pytest.raises(NetworkError) as caught:
            client.exchange("alice")
        check(caught.value, row)


def test_a_timeout_in_seconds(client):
    with pytest.raises(ExchangeTimeout) as caught:
        client.exchange("fault.stall", timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.attempts == 1


def test_a_name_that_is_not_found(sandbox):
    with Client(**settings_of(sandbox) | {"base_url": "https://spike-auth.invalid/v3"}, timeout=2) as client:
        with pytest.raises((NetworkError, ExchangeTimeout)) as caught:
            client.exchange("alice")
        assert caught.value.status in {Status.RESOLVE, Status.TIMEOUT}


def test_proxies(sandbox):
    tls = settings_of(sandbox, "https")
    with Client(**tls, proxy=sandbox["proxy"]) as client:
        assert client.exchange("alice")
    for proxy in (sandbox["proxy_refusing"], sandbox["proxy_auth"]):
        with Client(**tls, proxy=proxy) as client, pytest.raises(NetworkError) as caught:
            client.exchange("alice")
        assert caught.value.status is Status.PROXY


def test_the_errors_of_the_environment(sandbox, monkeypatch):
    for name, value in project.settings(sandbox).items():
        monkeypatch.setenv(name, value)
    for name, status in [
        ("SPIKE_TIMEOUT_MS", Status.INVALID_ENVIRONMENT),
        ("SPIKE_APPLICATION_ID", Status.INVALID_ENVIRONMENT),
        ("SPIKE_CA_FILE", Status.FILE),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(name, "no such thing\n")
            with pytest.raises(ConfigurationError, match=name) as caught:
                Client.from_env()
            assert caught.value.status is status


def test_a_proxy_of_the_environment_that_cannot_be_used(sandbox, monkeypatch):
    for name, value in project.settings(sandbox, "https").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("all_proxy", "socks5h://user:canary-pass@127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match="all_proxy") as caught:
        Client.from_env()
    assert caught.value.status is Status.INVALID_ENVIRONMENT
    assert "canary" not in everything_said(caught.value)
    for unaffected in ({"proxy": ""}, {"base_url": sandbox["http"]}):
        with Client.from_env(**unaffected) as client:
            assert client.token("alice")


# ---- secrets


def everything_said(error: BaseException) -> str:
    """All that a log could show of an exception, and of those behind it."""
    said = ""
    seen: BaseException | None = error
    while seen is not None:
        said += f"{seen!r} {seen!s} {vars(seen)} {seen.args}"
        seen = seen.__cause__ or seen.__context__
    return said


def test_no_error_shows_a_secret_whatever_the_server_echoes(client):
    for fault in ("echo", "echo.400", "echo.403", "echo.422", "echo.500", "echo-ok"):
        user = f"fault.{fault}.my_application_user_123"
        with pytest.raises(SpikeAuthError) as caught:
            client.exchange(user)
        for secret in (KEY, client.sign(user), user, "my_application_user_123", "compat-canary-", "eyJ"):
            assert secret not in everything_said(caught.value)


def test_no_error_of_ours_shows_the_key():
    key = "canary\ud800canary"
    for call in (lambda: Client("1", key), lambda: spike_auth.sign_user(key, "user")):
        with pytest.raises(ConfigurationError, match="surrogates") as caught:
            call()
        assert caught.value.status is Status.INVALID_KEY
        assert "canary" not in everything_said(caught.value)
        assert caught.value.__context__ is None
    with pytest.raises(ConfigurationError) as caught:
        Client("1", "canary" * 1000)
    assert "canary" not in everything_said(caught.value)


def test_the_family_says_what_to_catch(client):
    client.close()
    with pytest.raises(ClientClosed) as caught:
        client.token("alice")
    assert not isinstance(caught.value, (ValueError, OSError))
    assert issubclass(InternalError, SpikeAuthError)
    assert issubclass(Rejected, SpikeAuthError)
    assert issubclass(InvalidInput, ValueError)
