"""A clean environment, the built library, and sandboxes."""

from __future__ import annotations

import os

import pytest

from support import project

# Before anything imports spike_auth. The library may be chosen from outside, as for a library that is installed.
_library = os.environ.get("SPIKE_AUTH_LIBRARY", str(project.SHARED))
_clean = project.clean_env(SPIKE_AUTH_LIBRARY=_library)
os.environ.clear()
os.environ.update(_clean)


@pytest.fixture(scope="session")
def sandbox():
    """The addresses of a sandbox that gives each user one and the same token."""
    with project.sandbox() as addresses:
        yield addresses


@pytest.fixture
def own_sandbox():
    """A sandbox of the test's own: what it counts is the test's, and each exchange brings another token."""
    with project.sandbox("--fresh-tokens") as addresses:
        yield addresses


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
