"""A client of the built library through ctypes, for tests: a failed call raises what the library said."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_void_p

from support.library import Error, load

TOKEN_SIZE = 8193
ROOTS_NONE = 2

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
    "client_new": [c_void_p, _HANDLE, _ERROR],
    "client_sign_user": [c_void_p, *_TEXT, *_OUT, _ERROR],
    "client_exchange": [c_void_p, *_TEXT, c_void_p, *_OUT, _ERROR],
    "client_exchange_signature": [c_void_p, *_TEXT, *_TEXT, c_void_p, *_OUT, _ERROR],
    "verify_user": [*_TEXT, *_TEXT, *_TEXT, _ERROR],
}


def _load() -> ctypes.CDLL:
    library = load()
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, f"spike_auth_{name}")
        function.argtypes, function.restype = arguments, c_int32
    for name in ("config_free", "client_close", "client_free"):
        function = getattr(library, f"spike_auth_{name}")
        function.argtypes, function.restype = [c_void_p], None
    return library


LIBRARY = _load()


class Failure(Exception):
    """What a call failed with. `raw` is the whole struct, its reserved space included."""

    def __init__(self, error: Error) -> None:
        self.raw = bytes(error)
        self.status, self.http_status = error.status, error.http_status
        self.attempts, self.retryable = error.attempts, bool(error.retryable)
        self.message = error.message.decode()
        super().__init__(self.message)


# Each gets every error struct whole, that of a success too.
watchers: list[Callable[[bytes], None]] = []


def call(name: str, *arguments: object) -> None:
    """Calls `spike_auth_<name>` with an error struct that was full of other things before."""
    error = Error()
    ctypes.memset(byref(error), 0x5A, ctypes.sizeof(error))
    status = getattr(LIBRARY, f"spike_auth_{name}")(*arguments, byref(error))
    for watch in watchers:
        watch(bytes(error))
    if status != 0:
        raise Failure(error)


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

    def exchange(self, user: bytes | str) -> bytes:
        user = user.encode() if isinstance(user, str) else user
        return self._out("client_exchange", user, len(user), None)

    def exchange_signature(self, user: bytes, signature: bytes) -> bytes:
        return self._out("client_exchange_signature", user, len(user), signature, len(signature), None)

    def _out(self, name: str, *arguments: object) -> bytes:
        out, length = ctypes.create_string_buffer(TOKEN_SIZE), c_size_t()
        call(name, self.handle, *arguments, out, len(out), byref(length))
        return out.raw[: length.value]

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        LIBRARY.spike_auth_client_free(self.handle)
        self.handle = c_void_p()
