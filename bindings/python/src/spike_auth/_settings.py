"""Converts settings for the library. Checks only what C types would hide; the library checks the rest."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from ctypes import byref
from pathlib import Path
from typing import Any, Literal, TypedDict

from ._buffers import check
from ._errors import ConfigurationError, InvalidInput
from ._library import lib
from ._prototypes import TLS_ROOTS_BUNDLED, TLS_ROOTS_NONE, TLS_ROOTS_PLATFORM, ClientHandle, ConfigHandle, Status

DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 600
MAX_TTL = 10**12
_UINT32_MAX, _UINT64_MAX = 2**32 - 1, 2**64 - 1
_TLS_ROOTS = {"platform": TLS_ROOTS_PLATFORM, "bundled": TLS_ROOTS_BUNDLED, "none": TLS_ROOTS_NONE}


class Settings(TypedDict, total=False):
    """The settings of a client, as documented at `Client`."""

    application_id: int | str | None
    hmac_key: str | bytes | None
    base_url: str | None
    timeout: float | None
    connect_timeout: float | None
    max_attempts: int | None
    ca_file: str | os.PathLike[str] | None
    tls_roots: Literal["platform", "bundled", "none"] | None
    proxy: str | None
    max_concurrency: int | None
    max_rate: int | None
    cache_capacity: int | None
    cache_max_bytes: int | None
    cache_ttl: float | None
    store: str | None
    store_timeout: float | None
    user_agent: str | None


def encode(name: str, value: str) -> bytes:
    """Return the bytes of a text, surrogates too: the library refuses bad characters, and reports their position."""
    try:
        return str.encode(value)
    except TypeError:
        raise _wrong_type(name, "a str", value) from None
    except UnicodeEncodeError:
        return str.encode(value, "utf-8", "surrogatepass")


def key_bytes(name: str, key: str | bytes) -> bytes:
    """Return the bytes of a key, given as text or bytes."""
    if isinstance(key, bytes):
        return memoryview(key).tobytes()  # ignores what a subclass overrides
    if not isinstance(key, str):
        raise _wrong_type(name, "a str or bytes", key)
    encoded = str.encode(key, "utf-8", "replace")
    # Python's own error for surrogates would contain the key.
    if encoded.decode() != str.__str__(key):
        text = "The HMAC key contains surrogates. Pass it as the console shows it."
        raise ConfigurationError(text, status=Status.INVALID_KEY)
    return encoded


def milliseconds(name: str, seconds: float | None) -> int:
    """Return the whole milliseconds of a timeout, rounded up; 0, which stands for the client's, if it is None."""
    if seconds is None:
        return 0
    _check_seconds(name, seconds)
    if not 0 < seconds <= MAX_TIMEOUT:
        raise InvalidInput(f"The {name} is not above 0 and at most {MAX_TIMEOUT} seconds.")
    return _whole_milliseconds(seconds)


def _whole_milliseconds(seconds: float) -> int:
    # Rounded first, or 2.007 s would be 2008 ms. At least 1, because 0 stands for the default or for no limit.
    return max(math.ceil(round(seconds * 1000, 6)), 1)


def _check_seconds(name: str, seconds: float) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise _wrong_type(name, "a number of seconds", seconds)


def _wrong_type(name: str, wanted: str, value: object) -> TypeError:
    return TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def _application_id(name: str, value: int | str) -> bytes:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _wrong_type(name, "an int or a str", value)
    if isinstance(value, int):
        if not 0 <= value < 2**63:
            text = "The application id is not a number from 0 to 2^63-1."
            raise ConfigurationError(text, status=Status.INVALID_APPLICATION_ID)
        value = str(int(value))
    return encode(name, value)


def _whole(least: int, most: int = _UINT32_MAX) -> Callable[[str, int], int]:
    def convert(name: str, value: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(name, "an int", value)
        if not least <= value <= most:
            raise InvalidInput(f"The {name} is not a number from {least} to {most}.")
        return value

    return convert


def _ttl(name: str, value: float) -> int:
    _check_seconds(name, value)
    if not 0 <= value <= MAX_TTL:
        raise InvalidInput(f"The {name} is not from 0 to {MAX_TTL} seconds. Use 0 for no limit.")
    return _whole_milliseconds(value) if value else 0


def _ca_file(name: str, value: str | os.PathLike[str]) -> bytes:
    try:
        return Path(value).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"The {name} cannot be read: {reason}.", status=Status.TLS_ROOTS) from error


def _tls_roots(name: str, value: str) -> int:
    if not isinstance(value, str):
        raise _wrong_type(name, "a str", value)
    if value not in _TLS_ROOTS:
        raise InvalidInput(f"The {name} setting is not one of {', '.join(_TLS_ROOTS)}.")
    return _TLS_ROOTS[value]


_SETTERS: dict[str, tuple[str, Callable[[str, Any], bytes | int]]] = {
    "application_id": ("application_id", _application_id),
    "hmac_key": ("hmac_key", key_bytes),
    "base_url": ("base_url", encode),
    "timeout": ("timeout_ms", milliseconds),
    "connect_timeout": ("connect_timeout_ms", milliseconds),
    "max_attempts": ("max_attempts", _whole(1)),
    "ca_file": ("ca_pem", _ca_file),
    "tls_roots": ("tls_roots", _tls_roots),
    "proxy": ("proxy", encode),
    "max_concurrency": ("max_concurrency", _whole(1)),
    "max_rate": ("max_rate", _whole(0)),
    "cache_capacity": ("cache_capacity", _whole(0)),
    "cache_max_bytes": ("cache_max_bytes", _whole(1, _UINT64_MAX)),
    "cache_ttl": ("cache_ttl_ms", _ttl),
    "store": ("store", encode),
    "store_timeout": ("store_timeout_ms", milliseconds),
    "user_agent": ("user_agent", encode),
}


def open_client(settings: Mapping[str, Any], *, from_env: bool) -> ClientHandle:
    """Make a client. A setting that is None keeps its value."""
    config, client = ConfigHandle(), ClientHandle()
    check(lib.config_new, byref(config))
    if from_env:
        check(lib.config_load_env, config)
    for name, value in settings.items():
        if name not in _SETTERS:
            raise TypeError(f"{name} is not a setting; the settings are {', '.join(_SETTERS)}")
        if value is not None:
            setter, convert = _SETTERS[name]
            given = convert(name, value)
            inputs = (given,) if isinstance(given, int) else (given, len(given))
            check(getattr(lib, f"config_set_{setter}"), config, *inputs)
    check(lib.client_new, config, byref(client))
    return client
