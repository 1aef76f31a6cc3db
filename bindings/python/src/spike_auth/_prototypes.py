"""The declarations of `spike_auth.h`: constants, statuses, structs, functions. A test compares them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, ClassVar

from ._stats import Stats

ABI_VERSION = 1
USER_ID_MAX = 128
SIGNATURE_SIZE = 65
TOKEN_SIZE = 8193
AUTHORIZATION_SIZE = 8200
REPORT_SIZE = 16384

TLS_ROOTS_PLATFORM = 0
TLS_ROOTS_BUNDLED = 1
TLS_ROOTS_NONE = 2


class Status(enum.IntEnum):
    """The result of a call. A status that only a newer library knows is named ``UNKNOWN_<number>``."""

    OK = 0
    NULL_POINTER = 1
    INVALID_ARGUMENT = 2
    INVALID_USER_ID = 3
    INVALID_APPLICATION_ID = 4
    INVALID_KEY = 5
    INVALID_SIGNATURE = 6
    INVALID_URL = 7
    BUFFER_TOO_SMALL = 8
    KEY_REQUIRED = 9
    SIGNATURE_MISMATCH = 10
    INCOMPLETE_CONFIG = 11
    NOT_CACHED = 12
    INVALID_ENVIRONMENT = 13
    CLOSED = 14
    PENDING = 15
    TLS_ROOTS = 20
    FILE = 21
    RESOLVE = 40
    CONNECT = 41
    TLS = 42
    TIMEOUT = 43
    CONNECTION_LOST = 44
    PROXY = 45
    CANCELLED = 46
    STORE = 47
    REFUSED = 60
    UNAUTHORIZED = 61
    FORBIDDEN = 62
    RATE_LIMITED = 63
    SERVER_ERROR = 64
    UNEXPECTED_STATUS = 65
    INVALID_RESPONSE = 66
    RESPONSE_TOO_LARGE = 67
    TOKEN_REJECTED = 68
    INTERNAL = 90
    PANIC = 91

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        if not isinstance(value, int):
            return None
        unknown = int.__new__(cls, value)
        unknown._name_, unknown._value_ = f"UNKNOWN_{value}", value
        return unknown

    def __reduce_ex__(self, proto: object) -> tuple[Any, ...]:
        # Some builds of 3.11 pickle a member by name, and an unknown status cannot be found by name.
        return type(self), (self._value_,)


class ErrorStruct(Structure):
    """``spike_auth_error``."""

    _fields_: ClassVar = [
        ("status", c_int32),
        ("http_status", c_int32),
        ("retry_after_ms", c_int64),
        ("attempts", c_uint32),
        ("retryable", c_uint32),
        ("message", c_char * 424),
        ("reserved", c_uint64 * 8),
    ]


class StatsStruct(Structure):
    """``spike_auth_stats``."""

    _fields_: ClassVar = [
        *((name, c_uint64) for name in Stats.__dataclass_fields__),
        ("reserved", c_uint64 * 13),
    ]


class _Finalizer:
    """Frees an address when it is deleted itself."""

    __slots__ = ("_address", "_free")

    def __init__(self, free: Callable[[int], None], address: int) -> None:
        self._free, self._address = free, address

    def __del__(self) -> None:
        self._free(self._address)


class Handle(c_void_p):
    """A handle of the library, freed with its last reference.

    A call holds a reference, so the handle outlives the call. This needs no lock, whichever thread drops the last one.
    """

    free: ClassVar[Any]  # set when the library is loaded; takes the address

    # The class is bound, because globals can be None while the interpreter ends.
    def __del__(self, finalizer: type[_Finalizer] = _Finalizer) -> None:
        # In a garbage cycle this may run before the `__del__` of an object that uses the handle. So it does not free
        # the handle, but attaches a finalizer, which is not part of that garbage and runs after all these `__del__`.
        if self.value:
            self._finalizer = finalizer(type(self).free, self.value)


class ConfigHandle(Handle):
    """``spike_auth_config *``."""


class ClientHandle(Handle):
    """``spike_auth_client *``."""


class CallHandle(c_void_p):
    """``spike_auth_call *``, freed by its maker."""


class QueueHandle(Handle):
    """``spike_auth_queue *``."""


_ERROR = POINTER(ErrorStruct)
_TEXT = (c_char_p, c_size_t)
_TEXTS = (POINTER(c_int64), c_size_t)
_OUT = (c_void_p, c_size_t, POINTER(c_size_t))
_START = (CallHandle, QueueHandle, c_uint64, _ERROR)

# Name without `spike_auth_`: (result, arguments). A status is an int32_t.
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "abi_version": (c_uint32, ()),
    "version": (c_char_p, ()),
    "version_number": (c_uint32, ()),
    "signature_size": (c_size_t, ()),
    "token_size": (c_size_t, ()),
    "authorization_size": (c_size_t, ()),
    "status_name": (c_char_p, (c_int32,)),
    "status_text": (c_char_p, (c_int32,)),
    "sign_user": (c_int32, (*_TEXT, *_TEXT, *_OUT, _ERROR)),
    "verify_user": (c_int32, (*_TEXT, *_TEXT, *_TEXT, _ERROR)),
    "config_new": (c_int32, (POINTER(ConfigHandle), _ERROR)),
    "config_free": (None, (ConfigHandle,)),
    "config_load_env": (c_int32, (ConfigHandle, _ERROR)),
    "config_set_application_id": (c_int32, (ConfigHandle, *_TEXT, _ERROR)),
    "config_set_hmac_key": (c_int32, (ConfigHandle, *_TEXT, _ERROR)),
    "config_set_base_url": (c_int32, (ConfigHandle, *_TEXT, _ERROR)),
    "config_set_timeout_ms": (c_int32, (ConfigHandle, c_uint32, _ERROR)),
    "config_set_connect_timeout_ms": (c_int32, (ConfigHandle, c_uint32, _ERROR)),
    "config_set_max_attempts": (c_int32, (ConfigHandle, c_uint32, _ERROR)),
    "config_set_ca_pem": (c_int32, (ConfigHandle, *_TEXT, _ERROR)),
    "config_set_tls_roots": (c_int32, (ConfigHandle, c_int32, _ERROR)),
    "config_set_user_agent": (c_int32, (ConfigHandle, *_TEXT, _ERROR)),
    "config_set_proxy": (c_int32, (ConfigHandle, *_TEXT, _ERROR)),
    "config_set_max_concurrency": (c_int32, (ConfigHandle, c_uint32, _ERROR)),
    "config_set_max_rate": (c_int32, (ConfigHandle, c_uint32, _ERROR)),
    "config_set_cache_capacity": (c_int32, (ConfigHandle, c_uint32, _ERROR)),
    "config_set_cache_max_bytes": (c_int32, (ConfigHandle, c_uint64, _ERROR)),
    "config_set_cache_ttl_ms": (c_int32, (ConfigHandle, c_uint64, _ERROR)),
    "config_set_store": (c_int32, (ConfigHandle, *_TEXT, _ERROR)),
    "config_set_store_timeout_ms": (c_int32, (ConfigHandle, c_uint32, _ERROR)),
    "call_new": (c_int32, (POINTER(CallHandle), _ERROR)),
    "call_set_timeout_ms": (c_int32, (CallHandle, c_uint32, _ERROR)),
    "call_cancel": (None, (CallHandle,)),
    "call_free": (None, (CallHandle,)),
    "client_new": (c_int32, (ConfigHandle, POINTER(ClientHandle), _ERROR)),
    "client_close": (None, (ClientHandle,)),
    "client_free": (None, (ClientHandle,)),
    "client_set_hmac_key": (c_int32, (ClientHandle, *_TEXT, _ERROR)),
    "client_sign_user": (c_int32, (ClientHandle, *_TEXT, *_OUT, _ERROR)),
    "client_sign_users": (c_int32, (ClientHandle, *_TEXT, *_TEXTS, c_void_p, c_size_t, POINTER(c_int32), _ERROR)),
    "client_exchange": (c_int32, (ClientHandle, *_TEXT, CallHandle, *_OUT, _ERROR)),
    "client_exchange_signature": (c_int32, (ClientHandle, *_TEXT, *_TEXT, CallHandle, *_OUT, _ERROR)),
    "client_get_token": (c_int32, (ClientHandle, *_TEXT, CallHandle, *_OUT, _ERROR)),
    "client_get_authorization": (c_int32, (ClientHandle, *_TEXT, CallHandle, *_OUT, _ERROR)),
    "client_peek_token": (c_int32, (ClientHandle, *_TEXT, *_OUT, _ERROR)),
    "client_invalidate": (c_int32, (ClientHandle, *_TEXT, *_TEXT, _ERROR)),
    "client_forget": (c_int32, (ClientHandle, *_TEXT, _ERROR)),
    "client_check_store": (c_int32, (ClientHandle, CallHandle, _ERROR)),
    "client_diagnose": (c_int32, (ClientHandle, *_TEXT, CallHandle, *_OUT, _ERROR)),
    "client_forget_shared": (c_int32, (ClientHandle, *_TEXT, CallHandle, _ERROR)),
    "client_clear": (c_int32, (ClientHandle, _ERROR)),
    "call_get_token": (c_int32, (CallHandle, *_OUT, _ERROR)),
    "call_get_authorization": (c_int32, (CallHandle, *_OUT, _ERROR)),
    "queue_new": (c_int32, (POINTER(QueueHandle), _ERROR)),
    "queue_fd": (c_int32, (QueueHandle,)),
    "queue_take": (c_int32, (QueueHandle, POINTER(c_uint64), c_size_t, POINTER(c_size_t), _ERROR)),
    "queue_free": (None, (QueueHandle,)),
    "client_start_token": (c_int32, (ClientHandle, *_TEXT, *_START)),
    "client_start_exchange": (c_int32, (ClientHandle, *_TEXT, *_START)),
    "client_start_exchange_signature": (c_int32, (ClientHandle, *_TEXT, *_TEXT, *_START)),
    "client_stats": (c_int32, (ClientHandle, POINTER(StatsStruct), _ERROR)),
}

# Functions that never wait. Releasing the GIL would take longer than the call: under load, to get it back takes
# milliseconds. What they lock, no thread holds that waits for the GIL.
KEEPS_GIL = {
    *("config_free", "client_sign_user", "client_peek_token"),
    *("call_new", "call_set_timeout_ms", "call_get_token", "call_free", "queue_fd", "queue_take"),
    *("client_start_token", "client_start_exchange", "client_start_exchange_signature"),
}
