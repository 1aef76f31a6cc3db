"""Each status becomes the exception that a caller can act on, and no exception shows a secret."""

from __future__ import annotations

import copy
import pickle

import pytest

import spike_auth
from helpers import settings_of
from spike_auth import Client, ConfigurationError, LibraryLoadError, NetworkError, SpikeAuthError, Status
from spike_auth._errors import FAMILIES, error_from
from spike_auth._prototypes import ErrorStruct
from support import project

# (numbers, exception, its built-in base)
TABLE = [
    ([1, 2, 3, 6, 8, 9, 10], "InvalidInput", ValueError),
    ([4, 5, 7, 11, 13, 20, 21], "ConfigurationError", ValueError),
    ([14], "ClientClosed", None),
    ([40, 41, 42, 44, 45, 47], "NetworkError", ConnectionError),
    ([43], "ExchangeTimeout", TimeoutError),
    ([46], "Cancelled", None),
    ([60, 61, 62, 65, 68], "Rejected", None),
    ([63], "RateLimited", None),
    ([64], "ServerError", None),
    ([66, 67], "InvalidResponse", None),
    ([90, 91, 12, 15, 77, 1000, -1, 2**31 - 1, -(2**31)], "InternalError", None),
]


@pytest.mark.parametrize(("numbers", "name", "builtin"), TABLE)
def test_each_status_has_its_exception(numbers, name, builtin):
    family = getattr(spike_auth, name)
    assert family.__bases__ == (SpikeAuthError, *([builtin] if builtin else []))
    for number in numbers:
        error = error_from(ErrorStruct(number, 429, 1500, 3, 1, "why — and what to do".encode()))
        assert type(error) is family
        assert (error.status, error.http_status, error.retry_after) == (number, 429, 1.5)
        assert (error.attempts, error.retryable) == (3, True)
        assert str(error) == "why — and what to do"
        bare = error_from(ErrorStruct(number, 0, -1, 0, 0, b""))
        assert (bare.http_status, bare.retry_after, bare.attempts, bare.retryable) == (None, None, 0, False)


def test_the_table_has_every_status():
    assert {number for numbers, _, _ in TABLE for number in numbers} >= {*map(int, Status)} - {0}


def test_an_unknown_status_has_a_name():
    status = error_from(ErrorStruct(77)).status
    assert (status.name, int(status), repr(status)) == ("UNKNOWN_77", 77, "<Status.UNKNOWN_77: 77>")
    with pytest.raises(ValueError, match="'TIMEOUT' is not a valid Status"):
        Status("TIMEOUT")


@pytest.mark.parametrize("number", [*map(int, Status), 15, 77, -1])
def test_a_status_can_be_pickled_and_copied(number):
    status = Status(number)
    pickled = [pickle.dumps(status, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (*map(pickle.loads, pickled), copy.copy(status), copy.deepcopy(status)):
        assert type(twin) is Status
        assert (twin, twin.name, twin.value, hash(twin)) == (number, status.name, number, hash(status))
        assert twin is status or number not in [*Status]
    # By number, so that another version of the package can read it.
    assert not any(status.name.encode() in data for data in pickled)


@pytest.mark.parametrize("status", [63, 77])
@pytest.mark.parametrize("family", [*FAMILIES, LibraryLoadError, SpikeAuthError])
def test_exceptions_can_be_pickled_and_copied(family, status):
    error = family("what", status=status, http_status=429, retry_after=2.5, retryable=True, attempts=3)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is family
        assert (str(twin), vars(twin)) == ("what", vars(error))
    assert family("what").status is family.statuses[0]


@pytest.mark.parametrize(
    ("fault", "name", "facts"),
    [
        ("stall", "ExchangeTimeout", (Status.TIMEOUT, None, None, True, 1)),
        ("close-before", "NetworkError", (Status.CONNECTION_LOST, None, None, True, 1)),
        ("status.403", "Rejected", (Status.FORBIDDEN, 403, None, False, 1)),
        ("status.429.and.retry-after.7", "RateLimited", (Status.RATE_LIMITED, 429, 7.0, True, 1)),
        ("status.503", "ServerError", (Status.SERVER_ERROR, 503, None, True, 1)),
        ("bad-json", "InvalidResponse", (Status.INVALID_RESPONSE, 200, None, False, 1)),
        ("refused", "NetworkError", (Status.CONNECT, None, None, True, 0)),
    ],
)
def test_what_the_service_does_becomes_an_exception(sandbox, fault, name, facts):
    settings = settings_of(sandbox, max_attempts=1) | {"base_url": sandbox.get(fault, sandbox["http"])}
    with Client(**settings) as client, pytest.raises(getattr(spike_auth, name)) as caught:
        client.exchange(f"fault.{fault}", timeout=1 if fault == "stall" else 30)
    error = caught.value
    assert (error.status, error.http_status, error.retry_after, error.retryable, error.attempts) == facts


# ---- secrets


def shown_by(error: BaseException) -> str:
    """Everything that a log could show of an exception and its causes."""
    text = ""
    shown: BaseException | None = error
    while shown is not None:
        text += f"{shown!r} {shown!s} {vars(shown)} {shown.args}"
        shown = shown.__cause__ or shown.__context__
    return text


def test_an_error_shows_no_secret(client):
    user = "fault.echo.422.my_application_user_123"
    with pytest.raises(SpikeAuthError) as caught:
        client.exchange(user)
    for secret in (project.KEY, client.sign(user), user, "my_application_user_123", "compat-canary-", "eyJ"):
        assert secret not in shown_by(caught.value)


def test_a_key_error_does_not_show_the_key():
    key = "canary\ud800canary"
    for call in (lambda: Client("1", key), lambda: spike_auth.sign_user(key, "user")):
        with pytest.raises(ConfigurationError, match="surrogates") as caught:
            call()
        assert caught.value.status is Status.INVALID_KEY
        assert caught.value.__context__ is None
        assert "canary" not in shown_by(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        Client("1", "canary" * 1000)
    assert "canary" not in shown_by(caught.value)


def test_nothing_shows_the_url_of_a_store():
    url = "redis://canary-user:canary-password@localhost:1/0"
    with Client(1, "key", store=url) as client, pytest.raises(NetworkError) as caught:
        assert "canary" not in f"{client!r} {client} {vars(client)}"
        client.check_store()
    assert (caught.value.status, "canary" in shown_by(caught.value)) == (Status.STORE, False)
    for bad in (f"{url}/canary", url.removeprefix("redis://"), url.replace("localhost", "local host"), f"{url}\ud800"):
        with pytest.raises(ConfigurationError) as caught:
            Client(1, store=bad)
        assert (caught.value.status, "canary" in shown_by(caught.value)) == (Status.INVALID_URL, False)
