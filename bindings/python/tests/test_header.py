"""The table of prototypes equals the header."""

from __future__ import annotations

import ctypes
import re
from ctypes import POINTER, c_char, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

import pytest

import spike_auth
from spike_auth import Status, _prototypes
from spike_auth._library import lib
from spike_auth._prototypes import (
    KEEPS_GIL,
    PROTOTYPES,
    CallHandle,
    ClientHandle,
    ConfigHandle,
    ErrorStruct,
    QueueHandle,
    StatsStruct,
)
from support.project import HEADER, ROOT

TEXT = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER.read_text(), flags=re.DOTALL)

SCALARS = {"int32_t": c_int32, "int64_t": c_int64, "uint32_t": c_uint32, "uint64_t": c_uint64, "char": c_char}
TYPES = {
    **SCALARS,
    "size_t": c_size_t,
    "spike_auth_status_t": c_int32,
    "void": None,
    "const char *": c_char_p,
    "const uint8_t *": c_char_p,
    "char *": c_void_p,
    "size_t *": POINTER(c_size_t),
    "int32_t *": POINTER(c_int32),
    "uint64_t *": POINTER(c_uint64),
    "const int64_t *": POINTER(c_int64),
    "struct spike_auth_error *": POINTER(ErrorStruct),
    "struct spike_auth_stats *": POINTER(StatsStruct),
}
for _name, _handle in [
    ("config", ConfigHandle),
    ("call", CallHandle),
    ("client", ClientHandle),
    ("queue", QueueHandle),
]:
    TYPES[f"struct spike_auth_{_name} *"] = TYPES[f"const struct spike_auth_{_name} *"] = _handle
    TYPES[f"struct spike_auth_{_name} **"] = POINTER(_handle)


def functions() -> dict[str, tuple[object, tuple[object, ...]]]:
    found = {}
    for result, name, arguments in re.findall(r"^((?:const )?\w+ \*?)spike_auth_(\w+)\(([^)]*)\);", TEXT, re.MULTILINE):
        types = [] if arguments == "void" else [part.strip() for part in arguments.split(",")]
        # The last word is the name.
        found[name] = (TYPES[result.strip()], tuple(TYPES[re.sub(r"\w+$", "", part).strip()] for part in types))
    return found


def test_the_functions_equal_the_header():
    assert len(functions()) == len(re.findall(r"^SPIKE_AUTH_API$", TEXT, re.MULTILINE))
    assert functions() == PROTOTYPES


def test_each_function_is_declared_as_in_the_table():
    assert PROTOTYPES.keys() > KEEPS_GIL
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(lib, name)
        assert (function.restype, tuple(function.argtypes)) == (result, arguments)
        assert bool(function._flags_ & ctypes._FUNCFLAG_PYTHONAPI) == (name in KEEPS_GIL)


def test_the_constants_equal_the_header():
    defined = dict(re.findall(r"#define SPIKE_AUTH_(\w+) (\d+)$", HEADER.read_text(), re.MULTILINE))
    del defined["VERSION_NUMBER"]
    assert defined
    for name, value in defined.items():
        assert getattr(_prototypes, name) == int(value), name
    sizes = (_prototypes.SIGNATURE_SIZE, _prototypes.TOKEN_SIZE, _prototypes.AUTHORIZATION_SIZE)
    assert (lib.signature_size(), lib.token_size(), lib.authorization_size()) == sizes


def test_the_statuses_equal_the_header():
    named = re.findall(r"SPIKE_AUTH_STATUS_(\w+) = (\d+),", TEXT)
    assert named == [(status.name, str(status.value)) for status in Status]
    for status in Status:
        assert lib.status_name(status).decode() == f"SPIKE_AUTH_STATUS_{status.name}"


@pytest.mark.parametrize(("struct", "name", "size"), [(ErrorStruct, "error", 512), (StatsStruct, "stats", 256)])
def test_the_structs_equal_the_header(struct, name, size):
    body = re.search(rf"typedef struct spike_auth_{name} {{(.*?)}} spike_auth_{name};", TEXT, re.DOTALL)[1]
    fields = [
        (field, SCALARS[kind] * int(count) if count else SCALARS[kind])
        for kind, field, count in re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body)
    ]
    assert fields == list(struct._fields_)
    assert ctypes.sizeof(struct) == size


def test_the_versions_are_equal():
    package = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert spike_auth.__version__ == spike_auth.library_info().version == package
    assert spike_auth.library_info().abi == _prototypes.ABI_VERSION
