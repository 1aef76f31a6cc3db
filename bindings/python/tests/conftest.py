"""A clean environment, the built library, and sandboxes."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil

import pytest

from support import project
from support import store as stores

# Before any import of spike_auth. The variable can name another library, such as an installed one.
_library = os.environ.get("SPIKE_AUTH_LIBRARY", str(project.SHARED))
_clean = project.clean_env(SPIKE_AUTH_LIBRARY=_library)
os.environ.clear()
os.environ.update(_clean)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run an `async def` test in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.function(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def sandbox():
    """The addresses of a sandbox shared by all tests, with one token per user."""
    with project.sandbox() as addresses:
        yield addresses


@pytest.fixture
def own_sandbox():
    """A sandbox with counters of its own, and a new token for each exchange."""
    with project.sandbox("--fresh-tokens") as addresses:
        yield addresses


@pytest.fixture
def store():
    """The URL of a Redis or Valkey of the test."""
    kinds = stores.installed()
    if not kinds:
        pytest.skip("without redis-server (apt-get install redis-server)")
    with stores.store(kinds[0]) as running:
        yield running.url()


@pytest.fixture
def client(sandbox):
    from helpers import client_of

    with client_of(sandbox) as made:
        yield made


@pytest.fixture
def own_client(own_sandbox):
    from helpers import client_of

    with client_of(own_sandbox) as made:
        yield made


@pytest.fixture
def package(tmp_path):
    """A copy of the package, without a library in it."""
    from helpers import SOURCE

    copy = tmp_path / "site-packages"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return copy


@pytest.fixture
def freed(monkeypatch):
    """The addresses of freed clients."""
    import gc

    from spike_auth._prototypes import ClientHandle

    gc.collect()  # clients of other tests
    addresses = []
    free = ClientHandle.free
    monkeypatch.setattr(ClientHandle, "free", lambda address: (addresses.append(address), free(address)))
    return addresses
