"""Signs user ids, exchanges the signatures for Spike access tokens, and caches the tokens.

    from spike_auth import Client

    with Client.from_env() as client:
        print(client.authorization("my_application_user_123"))

`Client` is for threads, `AsyncClient` for asyncio. `spike_auth.requests` and `spike_auth.httpx` provide ``auth``
objects for these two libraries. Every failure is a `SpikeAuthError`.

The first use of a name that needs the shared library loads it, such as ``from spike_auth import Client``. It raises
`LibraryLoadError` if the library cannot be loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._errors import (
    Cancelled,
    ClientClosed,
    ConfigurationError,
    ExchangeTimeout,
    InternalError,
    InvalidInput,
    InvalidResponse,
    LibraryLoadError,
    NetworkError,
    RateLimited,
    Rejected,
    ServerError,
    SpikeAuthError,
)
from ._prototypes import Status
from ._stats import Stats

if TYPE_CHECKING:
    from ._async import AsyncClient
    from ._client import Client, sign_user, verify_user
    from ._library import LibraryInfo, library_info

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "ExchangeTimeout",
    "InternalError",
    "InvalidInput",
    "InvalidResponse",
    "LibraryInfo",
    "LibraryLoadError",
    "NetworkError",
    "RateLimited",
    "Rejected",
    "ServerError",
    "SpikeAuthError",
    "Stats",
    "Status",
    "library_info",
    "sign_user",
    "verify_user",
]

# The names that load the library. The others do not, so that LibraryLoadError can be imported and caught.
_LAZY = {
    "AsyncClient": "._async",
    "Client": "._client",
    "LibraryInfo": "._library",
    "library_info": "._library",
    "sign_user": "._client",
    "verify_user": "._client",
}


if not TYPE_CHECKING:  # a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_LAZY[name], __name__), name)
        value.__module__ = __name__
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


for _name in set(__all__) - set(_LAZY):
    globals()[_name].__module__ = __name__
