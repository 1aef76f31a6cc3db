"""The built library through ctypes, for tests only: a failed call raises the library's message."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_void_p

from support.project import SHARED

SIGNATURE_SIZE, TOKEN_SIZE = 65, 8193
ROOTS_NONE = 2
STORE = 47


class Error(ctypes.Structure):
    _fields_ = [
        ("status", ctypes.c_int32),
        ("http_status", ctypes.c_int32),
        ("retry_after_ms", ctypes.c_int64),
        ("attempts", ctypes.c_uint32),
        ("retryable", ctypes.c_uint32),
        ("message", ctypes.c_char * 424),
        ("shared", ctypes.c_uint32),
        ("renewal_status", ctypes.c_int32),
        ("reserved", ctypes.c_uint64 * 7),
    ]


class Stats(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "hits", "misses", "coalesced", "exchanges", "requests", "retries", "failures", "invalidations",
            "evictions", "entries", "bytes", "forks", "pending",
            "store_hits", "store_misses", "store_waits", "store_errors", "store_skipped",
            "key_changes",
        )
    ] + [("reserved", ctypes.c_uint64 * 13)]


_HANDLE, _SIZE, _ERROR = POINTER(c_void_p), POINTER(c_size_t), POINTER(Error)
_TEXT = [c_char_p, c_size_t]
_OUT = [c_void_p, c_size_t, _SIZE]

_FUNCTIONS = {
    "config_new": [_HANDLE, _ERROR],
    "config_load_env": [c_void_p, _ERROR],
    "config_set_application_id": [c_void_p, *_TEXT, _ERROR],
    "config_set_hmac_key": [c_void_p, *_TEXT, _ERROR],
    "config_set_base_url": [c_void_p, *_TEXT, _ERROR],
    "config_set_ca_pem": [c_void_p, *_TEXT, _ERROR],
    "config_set_proxy": [c_void_p, *_TEXT, _ERROR],
    "config_set_user_agent": [c_void_p, *_TEXT, _ERROR],
    "config_set_tls_roots": [c_void_p, c_int32, _ERROR],
    "config_set_timeout_ms": [c_void_p, c_uint32, _ERROR],
    "config_set_max_attempts": [c_void_p, c_uint32, _ERROR],
    "config_set_cache_capacity": [c_void_p, c_uint32, _ERROR],
    "config_set_store": [c_void_p, *_TEXT, _ERROR],
    "config_set_store_timeout_ms": [c_void_p, c_uint32, _ERROR],
    "client_new": [c_void_p, _HANDLE, _ERROR],
    "client_sign_user": [c_void_p, *_TEXT, *_OUT, _ERROR],
    "client_get_token": [c_void_p, *_TEXT, c_void_p, *_OUT, _ERROR],
    "client_check_store": [c_void_p, c_void_p, _ERROR],
    "client_stats": [c_void_p, POINTER(Stats), _ERROR],
    "client_exchange": [c_void_p, *_TEXT, c_void_p, *_OUT, _ERROR],
    "client_exchange_signature": [c_void_p, *_TEXT, *_TEXT, c_void_p, *_OUT, _ERROR],
    "sign_user": [*_TEXT, *_TEXT, *_OUT, _ERROR],
    "verify_user": [*_TEXT, *_TEXT, *_TEXT, _ERROR],
}


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(SHARED))
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, f"spike_auth_{name}")
        function.argtypes, function.restype = arguments, c_int32
    for name in ("config_free", "client_close", "client_free"):
        function = getattr(library, f"spike_auth_{name}")
        function.argtypes, function.restype = [c_void_p], None
    for name in ("status_name", "status_text"):
        function = getattr(library, f"spike_auth_{name}")
        function.argtypes, function.restype = [c_int32], c_char_p
    return library


LIBRARY = _load()


class Failure(Exception):
    """A call's failure. `raw` is the whole struct, with its reserved space."""

    def __init__(self, error: Error) -> None:
        self.raw = bytes(error)
        self.status, self.http_status = error.status, error.http_status
        self.attempts, self.retryable = error.attempts, bool(error.retryable)
        self.message = error.message.decode()
        super().__init__(self.message)


# Each receives every error struct, also that of a success.
watchers: list[Callable[[bytes], None]] = []


def call(name: str, *arguments: object) -> None:
    """Calls `spike_auth_<name>` with an error struct that holds other bytes before."""
    error = Error()
    ctypes.memset(byref(error), 0x5A, ctypes.sizeof(error))
    status = getattr(LIBRARY, f"spike_auth_{name}")(*arguments, byref(error))
    for watch in watchers:
        watch(bytes(error))
    if status != 0:
        raise Failure(error)


def text_of(name: str, size: int, *arguments: object) -> bytes:
    """Calls a function that writes a text."""
    out, length = ctypes.create_string_buffer(size), c_size_t()
    call(name, *arguments, out, len(out), byref(length))
    return out.raw[: length.value]


def sign(key: str, user_id: str) -> str:
    key_bytes, id_bytes = key.encode(), user_id.encode()
    return text_of("sign_user", SIGNATURE_SIZE, key_bytes, len(key_bytes), id_bytes, len(id_bytes)).decode()


class Config:
    """A configuration; `setting=value` calls the setter of that name."""

    def __init__(self, **settings: bytes | str | int) -> None:
        self.handle = c_void_p()
        call("config_new", byref(self.handle))
        for name, value in settings.items():
            self.set(name, value)

    def set(self, name: str, value: bytes | str | int) -> None:
        value = value.encode() if isinstance(value, str) else value
        arguments = (value,) if isinstance(value, int) else (value, len(value))
        call(f"config_set_{name}", self.handle, *arguments)

    def load_env(self) -> None:
        call("config_load_env", self.handle)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        LIBRARY.spike_auth_config_free(self.handle)
        self.handle = c_void_p()


class Client:
    """A client; the configuration is freed with it."""

    def __init__(self, **settings: bytes | str | int) -> None:
        self.handle = c_void_p()
        with Config(**settings) as config:
            call("client_new", config.handle, byref(self.handle))

    def token(self, user: str) -> bytes:
        return text_of("client_get_token", TOKEN_SIZE, self.handle, user.encode(), len(user.encode()), None)

    def check_store(self) -> str:
        """The failure's message, or an empty text."""
        try:
            call("client_check_store", self.handle, None)
        except Failure as failure:
            assert failure.status == STORE, failure
            return failure.message
        return ""

    def stats(self) -> Stats:
        stats = Stats()
        call("client_stats", self.handle, byref(stats))
        return stats

    def exchange(self, user: bytes | str) -> bytes:
        user = user.encode() if isinstance(user, str) else user
        return text_of("client_exchange", TOKEN_SIZE, self.handle, user, len(user), None)

    def exchange_signature(self, user: bytes, signature: bytes) -> bytes:
        arguments = (user, len(user), signature, len(signature), None)
        return text_of("client_exchange_signature", TOKEN_SIZE, self.handle, *arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        LIBRARY.spike_auth_client_free(self.handle)
        self.handle = c_void_p()
