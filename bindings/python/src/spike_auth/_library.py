"""Finds and loads the shared library, and declares its functions."""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import c_char_p, c_void_p
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

from ._errors import LibraryLoadError
from ._prototypes import ABI_VERSION, KEEPS_GIL, PROTOTYPES, ClientHandle, ConfigHandle, QueueHandle

VARIABLE = "SPIKE_AUTH_LIBRARY"
FILE = "libspike_auth.so"

Source = Literal["environment", "package", "system"]
_NAMES: dict[Source, str] = {"environment": f"${VARIABLE}", "package": "the package", "system": "the system's loader"}


@dataclass(frozen=True)
class LibraryInfo:
    """The loaded library."""

    path: str
    """Its file."""
    source: Source
    """Where it was found: ``"environment"`` (``$SPIKE_AUTH_LIBRARY``), ``"package"`` or ``"system"``."""
    version: str
    """Its version, such as ``"0.1.0"``."""
    abi: int
    """Its ABI version, which equals the package's."""


def _candidates() -> list[tuple[Source, str]]:
    """Return the paths to try. The current directory is not one, and `find_library` is not used."""
    path = os.environ.get(VARIABLE)
    if path is not None:
        return [("environment", path)]
    own = Path(__file__).absolute().with_name(FILE)
    return [("package", str(own)), ("system", f"{FILE}.{ABI_VERSION}")]


def _declare(path: str) -> SimpleNamespace:
    if not path:
        raise OSError("the variable is empty")
    releases_gil = ctypes.CDLL(path)
    keeps_gil = ctypes.PyDLL(path, handle=releases_gil._handle)  # noqa: SLF001  no public name for it
    functions = SimpleNamespace()
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(keeps_gil if name in KEEPS_GIL else releases_gil, f"spike_auth_{name}")
        except AttributeError:
            cause = "is not the spike_auth library" if name == "abi_version" else "is older than this package"
            raise OSError(f"it has no function spike_auth_{name}, so it {cause}") from None
        function.restype, function.argtypes = result, arguments
        setattr(functions, name, function)
        if name in KEEPS_GIL:
            unchecked = keeps_gil[f"spike_auth_{name}"]  # another object, without argtypes
            unchecked.restype = result
            setattr(functions, f"unchecked_{name}", unchecked)
        if name == "abi_version" and (abi := function()) != ABI_VERSION:
            raise OSError(f"its ABI version is {abi}; this package needs {ABI_VERSION}")
    return functions


def _load() -> tuple[SimpleNamespace, Source, str]:
    if sys.implementation.name != "cpython":  # PyPy's ctypes has no PyDLL, and corrupts the heap with the rest
        raise LibraryLoadError(f"spike_auth runs on CPython, and this is {sys.implementation.name}.")
    tried: list[str] = []
    source: Source
    for source, path in _candidates():
        try:
            return _declare(path), source, path
        except (OSError, ValueError) as error:
            reason = "the path is not text" if isinstance(error, ValueError) else str(error).removeprefix(f"{path}: ")
            tried.append(f"  {_NAMES[source]}, {path!r}: {reason or 'cannot be opened'}")
    cure = (
        f"Nothing else is tried while {VARIABLE} is set. Correct or unset it."
        if VARIABLE in os.environ
        else "Install a spike-auth wheel for this platform; or install the library where the system's loader finds it\n"
        f"(make install, then ldconfig); or set {VARIABLE} to the path of {FILE}."
    )
    raise LibraryLoadError("\n".join(["The spike_auth library cannot be loaded. Tried:", *tried, cure]))


class _Symbol(ctypes.Structure):
    """``Dl_info``."""

    _fields_ = (("file", c_char_p), ("base", c_void_p), ("name", c_char_p), ("address", c_void_p))


def _file_of(function: object, otherwise: str) -> str:
    """Return the file that the loader took a function from."""
    found = _Symbol()
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    if dladdr is None or not dladdr(ctypes.cast(function, c_void_p), ctypes.byref(found)):  # type: ignore[arg-type]
        return otherwise
    return os.fsdecode(found.file)


_source: Source
lib, _source, _path = _load()
ConfigHandle.free, ClientHandle.free, QueueHandle.free = lib.config_free, lib.client_free, lib.queue_free


def library_info() -> LibraryInfo:
    """Return which library is loaded, and where it was found."""
    return LibraryInfo(_file_of(lib.version, _path), _source, lib.version().decode(), lib.abi_version())
