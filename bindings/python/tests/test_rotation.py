"""Another HMAC key, while the client is used. Its rules are proved in tests/c/rotation.c."""

from __future__ import annotations

import asyncio
import stat

import pytest

from helpers import async_client_of, client_of, settings_of
from spike_auth import Client, ConfigurationError, Rejected, Status
from support import project


@pytest.fixture
def own_sandbox():
    with project.sandbox() as addresses:
        yield addresses


def test_a_key_that_is_set(own_sandbox):
    with client_of(own_sandbox) as client:
        kept = client.token("alice")
        project.set_key(own_sandbox, "another")
        with pytest.raises(Rejected):
            client.token("bob")
        client.set_hmac_key("another")
        assert client.token("bob")
        assert client.token("alice") == kept
        client.set_hmac_key(b"another")  # the same changes nothing
        assert client.stats().key_changes == 1


def test_a_key_that_is_set_in_a_loop(own_sandbox):
    async def main() -> None:
        async with async_client_of(own_sandbox) as client:
            project.set_key(own_sandbox, "another")
            client.set_hmac_key("another")
            assert await client.token("alice")

    asyncio.run(main())


def test_a_file_that_is_replaced(own_sandbox, tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text(project.KEY + "\n")
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    variables = project.settings(own_sandbox)
    del variables["SPIKE_HMAC_KEY"]
    for name, value in {**variables, "SPIKE_HMAC_KEY_FILE": str(path)}.items():
        monkeypatch.setenv(name, value)
    with Client.from_env() as client:
        path.write_text("another")
        project.set_key(own_sandbox, "another")
        assert client.token("alice")
        assert (client.stats().key_changes, client.stats().requests) == (1, 2)


@pytest.mark.parametrize("key", ["", b"", "k" * 4097])
def test_a_bad_key_is_refused(sandbox, key):
    with Client(**settings_of(sandbox)) as client:
        with pytest.raises(ConfigurationError) as caught:
            client.set_hmac_key(key)
        assert caught.value.status is Status.INVALID_KEY
        with pytest.raises(TypeError, match="hmac_key must be a str or bytes"):
            client.set_hmac_key(7)
        assert client.token("alice")
