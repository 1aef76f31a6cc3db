"""The pytest plug-in of spike_auth: one fixture.

pytest imports this module whenever it starts, also for the tests of others. So it stands beside the package, which it
imports only for a test that uses the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from spike_auth.testing import FakeService


@pytest.fixture
def spike_auth_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """Run a `spike_auth.testing.FakeService` for the test. The environment variables lead to it."""
    from spike_auth.testing import CONFLICTING, FakeService  # noqa: PLC0415

    with FakeService() as service:
        for name in CONFLICTING:
            monkeypatch.delenv(name, raising=False)
        for name, value in service.env.items():
            monkeypatch.setenv(name, value)
        yield service
