"""Conversion of arguments: accepted types, ranges, encodings. The rules for values are the library's."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import pytest

from helpers import client_of, settings_of
from spike_auth import (
    AsyncClient,
    Client,
    ConfigurationError,
    ExchangeTimeout,
    InvalidInput,
    NetworkError,
    RateLimited,
    Status,
    _client,
    sign_user,
    verify_user,
)
from spike_auth._settings import _ttl, milliseconds
from support import project


class Liar(str):
    """A str whose own methods tell other things than its text."""

    __slots__ = ()

    def __len__(self) -> int:
        return 2

    def encode(self, *_: object) -> bytes:
        return b"other"


class LyingBytes(bytes):
    def __len__(self) -> int:
        return 1000


def test_overridden_methods_of_a_subclass_are_ignored(client):
    key = project.KEY
    expected = sign_user(key, "alice")
    assert sign_user(LyingBytes(key.encode()), Liar("alice")) == sign_user(Liar(key), "alice") == expected
    assert client.sign(Liar("alice")) == expected
    with pytest.raises(TypeError, match="plain str"):
        client.sign_many(["bob", Liar("alice")])


def test_texts_must_be_str(client):
    calls = [client.sign, client.token, client.exchange, client.authorization, client.forget]
    calls += [lambda user: sign_user("key", user), lambda user: verify_user("key", user, "0" * 64)]
    calls += [lambda user: client.invalidate(user, "token")]
    for wrong in (b"alice", None, 1, bytearray(b"alice"), object()):
        for call in calls:
            with pytest.raises(TypeError, match=f"^user_id must be a str, not {type(wrong).__name__}$"):
                call(wrong)
    with pytest.raises(TypeError, match="^signature must be a str, not bytes$"):
        client.exchange("alice", b"0" * 64)
    with pytest.raises(TypeError, match="^rejected must be a str, not NoneType$"):
        client.invalidate("alice", None)


@pytest.mark.parametrize(
    ("user", "words"),
    [("\ud800", "0xed at position 0"), ("a\udfff", "0xed at position 1"), ("a" * 10_000_000, "10000000")],
    ids=["first", "second", "long"],
)
def test_surrogates_and_long_texts_are_invalid_input(client, user, words):
    for call in (client.sign, client.token, client.exchange, lambda user: sign_user("key", user)):
        with pytest.raises(InvalidInput, match=words) as caught:
            call(user)
        assert caught.value.status is Status.INVALID_USER_ID


def test_verify():
    signature = sign_user("key", "alice")
    assert verify_user("key", "alice", signature)
    assert not verify_user("key", "bob", signature)
    assert not verify_user("other", "alice", signature)
    with pytest.raises(InvalidInput):
        verify_user("key", "alice", "not a signature")


def test_keys():
    assert sign_user("clé", "alice") == sign_user("clé".encode(), "alice")
    assert sign_user(b"a\0b", "alice") != sign_user(b"a", "alice")
    for wrong in (None, 1, bytearray(b"key"), memoryview(b"key")):
        with pytest.raises(TypeError, match="^hmac_key must be a str or bytes, not"):
            sign_user(wrong, "alice")
    for call in (lambda: sign_user("", "alice"), lambda: Client(1, "")):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert caught.value.status is Status.INVALID_KEY


def test_application_ids(sandbox):
    with Client(**settings_of(sandbox) | {"application_id": int(sandbox["application_id"])}) as client:
        assert client.exchange("alice")
    Client(0)
    Client(2**63 - 1)
    for bad in (-1, 2**63, 10**4000, "", "é"):
        with pytest.raises(ConfigurationError) as caught:
            Client(bad)
        assert caught.value.status is Status.INVALID_APPLICATION_ID
    for wrong in (True, 1.0, b"1", [1]):
        with pytest.raises(TypeError, match="^application_id must be an int or a str, not"):
            Client(wrong)


def test_seconds_become_milliseconds_rounded_up():
    pairs = [(0.001, 1), (0.0011, 2), (1e-9, 1), (0.07, 70), (2.007, 2007), (1, 1000), (600, 600_000), (1.0005, 1001)]
    assert [milliseconds("timeout", seconds) for seconds, _ in pairs] == [expected for _, expected in pairs]
    assert [_ttl("cache_ttl", seconds) for seconds in (0, 0.0001, 10**12)] == [0, 1, 10**15]


@pytest.mark.parametrize(
    "bad", [0, -0.001, math.nan, math.inf, -math.inf, 600.001, 10**400], ids=lambda bad: str(bad)[:9]
)
def test_timeouts_out_of_range(client, bad):
    client.token("alice")  # a hit refuses it too
    for call in (
        lambda: client.token("alice", timeout=bad),
        lambda: client.exchange("alice", timeout=bad),
        lambda: client.authorization("alice", timeout=bad),
        lambda: Client(1, timeout=bad),
        lambda: Client(1, connect_timeout=bad),
        lambda: Client(1, store_timeout=bad),
    ):
        with pytest.raises(InvalidInput, match="timeout") as caught:
            call()
        assert caught.value.status is Status.INVALID_ARGUMENT


def test_numbers_of_the_wrong_type(client):
    for wrong in ("1", True, b"1", [1], 1j):
        with pytest.raises(TypeError, match="^timeout must be a number of seconds, not"):
            client.token("alice", timeout=wrong)
        with pytest.raises(TypeError, match="^cache_ttl must be a number of seconds, not"):
            Client(1, cache_ttl=wrong)
    for name in ("max_attempts", "max_concurrency", "max_rate", "cache_capacity", "cache_max_bytes"):
        for wrong in ("1", True, 1.0, b"1"):
            with pytest.raises(TypeError, match=f"^{name} must be an int, not"):
                Client(1, **{name: wrong})


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("max_attempts", bad) for bad in (0, -1, 2**32 + 1)),  # C would see 2**32 + 1 as 1
        ("max_concurrency", 0),
        *(("max_rate", bad) for bad in (-1, 2**32)),
        *(("cache_capacity", bad) for bad in (-1, 2**32, 10**4000)),
        *(("cache_max_bytes", bad) for bad in (-1, 0, 2**64, 10**4000)),
        *(("cache_ttl", bad) for bad in (-1, math.inf, 10**400, math.nan)),
        ("tls_roots", "all"),
    ],
    ids=lambda value: str(value)[:15] if not isinstance(value, int) or value < 2**64 else "large",
)
def test_values_that_c_types_would_hide(name, bad):
    with pytest.raises(InvalidInput, match=name) as caught:
        Client(1, **{name: bad})
    assert caught.value.status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({}, Status.INCOMPLETE_CONFIG, "application id"),
        ({"base_url": "http://example.com"}, Status.INVALID_URL, "base URL"),
        ({"timeout": 1, "connect_timeout": 2}, Status.INVALID_ARGUMENT, "2000 ms.*1000 ms"),
        ({"max_attempts": 11}, Status.INVALID_ARGUMENT, "11"),
        ({"tls_roots": "none"}, Status.TLS_ROOTS, "roots"),
        ({"proxy": "socks5://localhost"}, Status.INVALID_URL, "SOCKS"),
        ({"max_concurrency": 1025}, Status.INVALID_ARGUMENT, "1024"),
        ({"store": "http://localhost"}, Status.INVALID_URL, "store"),
        ({"store_timeout": 10.001}, Status.INVALID_ARGUMENT, "10001"),
        ({"user_agent": "a\nb"}, Status.INVALID_ARGUMENT, "user agent"),
    ],
    ids=str,
)
def test_each_setting_reaches_the_library(settings, status, words):
    with pytest.raises((InvalidInput, ConfigurationError), match=words) as caught:
        Client(1 if settings else None, **settings)
    assert caught.value.status is status


def test_none_is_the_default():
    names = ("base_url", "timeout", "connect_timeout", "max_attempts", "ca_file", "tls_roots", "proxy", "user_agent")
    names += ("max_concurrency", "max_rate", "cache_capacity", "cache_max_bytes", "cache_ttl", "store", "store_timeout")
    Client(1, **dict.fromkeys(names))
    Client(1, cache_ttl=0, cache_capacity=0, proxy="", user_agent="", store="")


def test_the_rate_that_is_set_holds(sandbox):
    with client_of(sandbox, max_rate=1, timeout=0.5) as client:
        client.exchange("rate")
        with pytest.raises(RateLimited, match="max_rate") as caught:
            client.exchange("rate")
    assert caught.value.attempts == 0
    assert caught.value.http_status is None
    assert caught.value.retry_after


def test_tiny_values_are_not_zero(own_sandbox):
    with client_of(own_sandbox, timeout=30) as client, pytest.raises(ExchangeTimeout):
        client.exchange("fault.stall", timeout=1e-10)
    for settings in ({"cache_ttl": 1e-10}, {"cache_capacity": 0}, {"cache_max_bytes": 1}):
        with client_of(own_sandbox, **settings) as client:
            first = client.token("alice")
            time.sleep(0.005)
            assert client.token("alice") != first


def test_ca_files(sandbox, tmp_path):
    for path in (sandbox["ca_file"], Path(sandbox["ca_file"])):
        with Client(**settings_of(sandbox, "https") | {"ca_file": path}) as client:
            assert client.exchange("alice")
    without = settings_of(sandbox, "https") | {"ca_file": None, "tls_roots": "bundled"}
    with Client(**without) as client, pytest.raises(NetworkError) as caught:
        client.exchange("alice")
    assert caught.value.status is Status.TLS
    for bad, why in [(tmp_path / "absent", "No such file"), (tmp_path, "Is a directory"), ("a\0b", "null")]:
        with pytest.raises(ConfigurationError, match=why) as caught:
            Client(1, ca_file=bad)
        assert caught.value.status is Status.TLS_ROOTS


def test_other_settings_of_the_wrong_type():
    with pytest.raises(TypeError, match="^base_url must be a str, not int$"):
        Client(1, base_url=1)
    for wrong in (1, b"platform", ["none"]):
        with pytest.raises(TypeError, match="^tls_roots must be a str, not"):
            Client("1", tls_roots=wrong)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_arguments_override_the_environment(sandbox, monkeypatch, kind):
    for name, value in project.settings(sandbox).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPIKE_TIMEOUT_MS", "50")

    def stall(client: Client | AsyncClient) -> None:
        """Ends by the client's timeout, or by that of pytest."""
        with pytest.raises(ExchangeTimeout):
            called = client.exchange("fault.stall")
            asyncio.run(called)  # of an AsyncClient

    client = kind.from_env()
    assert client.sign("alice") == sign_user(sandbox["hmac_key"], "alice")
    stall(client)
    stall(kind.from_env(timeout=None))
    monkeypatch.setenv("SPIKE_TIMEOUT_MS", "600000")
    stall(kind.from_env(timeout=0.05))
    assert kind.from_env(hmac_key="other").sign("alice") == sign_user("other", "alice")
    with pytest.raises(TypeError, match="^timout is not a setting; the settings are application_id, "):
        kind.from_env(timout=1)
    with pytest.raises(TypeError, match="timout"):
        kind(1, timout=1)
    monkeypatch.setenv("SPIKE_TIMEOUT_MS", "soon")
    with pytest.raises(ConfigurationError, match="SPIKE_TIMEOUT_MS") as caught:
        kind.from_env()
    assert caught.value.status is Status.INVALID_ENVIRONMENT


def test_an_empty_proxy_overrides_the_environment(sandbox, monkeypatch):
    for name, value in project.settings(sandbox, "https").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("https_proxy", sandbox["proxy_refusing"])
    with Client.from_env() as client, pytest.raises(NetworkError) as caught:
        client.token("alice")
    assert caught.value.status is Status.PROXY
    for proxy in ("", sandbox["proxy"]):
        with Client.from_env(proxy=proxy) as client:
            assert client.token("alice")


# ---- sign_many


def test_sign_many(client):
    users = [f"user{i}" * (1 + i % 7) for i in range(1000)]
    signatures = [client.sign(user) for user in users]
    assert client.sign_many(users) == client.sign_many(iter(users)) == client.sign_many(tuple(users)) == signatures
    assert client.sign_many([]) == []
    assert client.sign_many(["alice"]) == [client.sign("alice")]


@pytest.mark.parametrize("bad", ["", "a b", "é", "\ud800", "a\0", "a" * 129])
@pytest.mark.parametrize("index", [0, 2, 4])
def test_sign_many_names_the_first_bad_one(client, bad, index):
    users = [bad if i >= index else "aaa" for i in range(5)]
    with pytest.raises(InvalidInput, match=rf"\b{index}\b") as caught:
        client.sign_many(users)
    assert caught.value.status is Status.INVALID_USER_ID


def test_sign_many_wipes_its_buffer(client, monkeypatch):
    buffers = []
    monkeypatch.setattr(_client, "split_signatures", lambda joined: buffers.append((joined, bytes(joined))))
    client.sign_many(["alice"])
    ((buffer, before),) = buffers
    assert before == client.sign("alice").encode() + b"\0"
    assert bytes(buffer) == bytes(65)


def test_sign_many_needs_an_iterable_of_str(client):
    for wrong in ("alice", b"alice"):
        with pytest.raises(TypeError, match=f"^user_ids must be an iterable of str, not one {type(wrong).__name__}$"):
            client.sign_many(wrong)
    with pytest.raises(TypeError, match=r"^user_ids\[1\] must be a str, not bytes$"):
        client.sign_many(["alice", b"bob"])
    with pytest.raises(TypeError):
        client.sign_many(1)
