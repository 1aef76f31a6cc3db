"""The built library through ctypes, as plainly as can be: for tests, not the binding."""

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_size_t

from support.project import SHARED


class Error(ctypes.Structure):
    _fields_ = [
        ("status", ctypes.c_int32),
        ("http_status", ctypes.c_int32),
        ("retry_after_ms", ctypes.c_int64),
        ("attempts", ctypes.c_uint32),
        ("retryable", ctypes.c_uint32),
        ("message", ctypes.c_char * 424),
        ("reserved", ctypes.c_uint64 * 8),
    ]


def load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(SHARED))
    sign = library.spike_auth_sign_user
    sign.restype = c_int32
    sign.argtypes = [c_char_p, c_size_t, c_char_p, c_size_t, c_char_p, c_size_t, POINTER(c_size_t), POINTER(Error)]
    library.spike_auth_status_name.restype = c_char_p
    library.spike_auth_status_name.argtypes = [c_int32]
    library.spike_auth_status_text.restype = c_char_p
    library.spike_auth_status_text.argtypes = [c_int32]
    library.spike_auth_version.restype = c_char_p
    return library


def sign(library: ctypes.CDLL, key: str, user_id: str) -> str:
    out, length, error = ctypes.create_string_buffer(65), c_size_t(), Error()
    key_bytes, id_bytes = key.encode(), user_id.encode()
    status = library.spike_auth_sign_user(
        key_bytes, len(key_bytes), id_bytes, len(id_bytes), out, len(out), ctypes.byref(length), ctypes.byref(error)
    )
    if status != 0:
        raise AssertionError(error.message.decode())
    return out.value.decode()
