"""Finds the shared library, declares its functions, and says what went wrong if it cannot."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

from ._errors import LibraryLoadError
from ._prototypes import ABI_VERSION, PROTOTYPES, QUICK, CallHandle, ClientHandle, ConfigHandle

VARIABLE = "SPIKE_AUTH_LIBRARY"
FILE = "libspike_auth.so"

Source = Literal["environment", "package", "system"]
_NAMES: dict[Source, str] = {
    "environment": f"${VARIABLE}",
    "package": "the package's own",
    "system": "the system's loader",
}


@dataclass(frozen=True)
class LibraryInfo:
    """The library that is loaded."""

    path: str
    """The file."""
    source: Source
    """Where it was found: ``"environment"`` (``$SPIKE_AUTH_LIBRARY``), ``"package"`` or ``"system"``."""
    version: str
    """Its version, such as ``"0.1.0"``."""
    abi: int
    """Its ABI, which is the one that this package was written for."""


def _candidates() -> list[tuple[Source, str]]:
    """Never the current directory, and no guessing: what is named, what came with the package, what is installed."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return [("environment", named)]
    own = Path(__file__).absolute().with_name(FILE)
    return [("package", str(own)), ("system", f"{FILE}.{ABI_VERSION}")]


def _declare(path: str) -> SimpleNamespace:
    if not path:
        raise OSError("the variable is empty")
    waiting = ctypes.CDLL(path)
    # The same library again; its functions are called without letting go of the GIL.
    quick = ctypes.PyDLL(path, handle=waiting._handle)  # noqa: SLF001  there is no other way to it
    functions = SimpleNamespace()
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(quick if name in QUICK else waiting, f"spike_auth_{name}")
        except AttributeError:
            is_another = name == "abi_version"
            consequence = "it is not the library of spike_auth" if is_another else "it is older than this package"
            raise OSError(f"it has no function spike_auth_{name}, so {consequence}") from None
        function.restype, function.argtypes = result, arguments
        setattr(functions, name, function)
        if name in QUICK:
            bare = quick[f"spike_auth_{name}"]
            bare.restype = result
            setattr(functions, f"bare_{name}", bare)
        if name == "abi_version" and (abi := function()) != ABI_VERSION:
            raise OSError(f"its ABI is {abi}, and this package needs {ABI_VERSION}")
    return functions


def _load() -> tuple[SimpleNamespace, Source, str]:
    tried: list[str] = []
    source: Source
    for source, path in _candidates():
        try:
            return _declare(path), source, path
        except (OSError, ValueError) as error:
            reason = "the path is not text" if isinstance(error, ValueError) else str(error).removeprefix(f"{path}: ")
            reason = reason or "cannot be opened"
            tried.append(f"  {_NAMES[source]}, {path!r}: {reason}")
    cure = (
        f"Nothing else is tried while {VARIABLE} is set: correct it, or unset it."
        if VARIABLE in os.environ
        else "Install a wheel of spike-auth for this platform; or install the library where the system's loader finds\n"
        f"it (make install, then ldconfig); or set {VARIABLE} to the path of {FILE}."
    )
    raise LibraryLoadError("\n".join(["The library of spike_auth cannot be loaded. Tried:", *tried, cure]))


class _Symbol(ctypes.Structure):
    """``Dl_info``."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _file_of(function: object, otherwise: str) -> str:
    """The file that the loader took a function from."""
    found = _Symbol()
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    if dladdr is None or not dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(found)):  # type: ignore[arg-type]
        return otherwise
    return os.fsdecode(found.file)


_source: Source
lib, _source, _path = _load()
ConfigHandle.free, ClientHandle.free, CallHandle.free = lib.config_free, lib.client_free, lib.call_free


def library_info() -> LibraryInfo:
    """Tell which library is loaded, and where it was found."""
    return LibraryInfo(
        path=_file_of(lib.version, _path),
        source=_source,
        version=lib.version().decode(),
        abi=lib.abi_version(),
    )
