"""The vectors that all languages share."""

from __future__ import annotations

import json

import pytest

from helpers import client_of
from spike_auth import Client, InvalidInput, SpikeAuthError, Status, sign_user, verify_user
from support.project import ROOT


def load(name: str) -> dict:
    return json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text())


USER_IDS = load("user_ids")


def test_signatures():
    vectors = load("signatures")
    key, signatures = vectors["key"], vectors["signatures"]
    assert len(signatures) >= 1000
    client = Client("9999", key)
    for user, signature in signatures.items():
        assert sign_user(key, user) == client.sign(user) == signature
        assert verify_user(key.encode(), user, signature.upper())
    assert client.sign_many(signatures) == list(signatures.values())


@pytest.mark.parametrize("user", USER_IDS["valid"])
def test_valid_user_ids(user):
    assert verify_user(b"key", user, sign_user(b"key", user))


@pytest.mark.parametrize("row", USER_IDS["invalid"], ids=lambda row: ascii(row["id"])[:20])
def test_invalid_user_ids(row):
    client = Client("9999", "key")
    calls = [client.sign, client.token, client.exchange, client.authorization, client.forget]
    calls += [lambda user: sign_user("key", user), lambda user: client.invalidate(user, "token")]
    calls += [lambda user: verify_user("key", user, "0" * 64)]
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call(row["id"])
        assert caught.value.status is Status.INVALID_USER_ID
        assert row["reason"] in str(caught.value).replace("is empty", "empty").replace("has 129 bytes", "129 bytes")
    with pytest.raises(InvalidInput, match=r"\b1\b"):
        client.sign_many(["good", row["id"], "good", ""])


def test_rfc_4231():
    """Compares the keys only: the data of these cases are not valid user ids."""
    from hashlib import sha256
    from hmac import new

    for case in load("rfc4231")["cases"]:
        key = bytes.fromhex(case["key"])
        assert sign_user(key, "user") == new(key, b"user", sha256).hexdigest()


def test_status_numbers():
    assert load("status_numbers") == {status.name: status.value for status in Status}


def test_http_statuses(sandbox):
    with client_of(sandbox, max_attempts=1) as client:
        for reply in load("statuses")["replies"]:
            with pytest.raises(SpikeAuthError) as caught:
                client.exchange(f"fault.status.{reply['http_status']}.x")
            error = caught.value
            assert f"SPIKE_AUTH_STATUS_{error.status.name}" == reply["name"]
            assert (error.status, error.retryable) == (reply["status"], reply["retryable"])
