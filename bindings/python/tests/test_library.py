"""Where the library is looked for, what is printed if it is missing, and what the package exports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import spike_auth
from helpers import SOURCE, environment, python, script, without_library
from support import project

SHOW = "import spike_auth; info = spike_auth.library_info(); print(info.source, info.path)"
LOAD = "import spike_auth\ntry: spike_auth.Client\nexcept spike_auth.LibraryLoadError as error: print(error)"
LIBRARY = Path(os.environ["SPIKE_AUTH_LIBRARY"]).resolve()
FAILED = "The spike_auth library cannot be loaded. Tried:\n"
MISSING = "cannot open shared object file: No such file or directory"


def test_the_variable_comes_first(package, tmp_path):
    shutil.copy(LIBRARY, package / "spike_auth" / "libspike_auth.so")
    other = tmp_path / "other.so"
    shutil.copy(LIBRARY, other)
    assert script(SHOW, environment(PYTHONPATH=str(package), SPIKE_AUTH_LIBRARY=str(other))) == f"environment {other}\n"


def test_then_the_file_in_the_package(package):
    own = package / "spike_auth" / "libspike_auth.so"
    shutil.copy(LIBRARY, own)
    assert script(SHOW, without_library(package)) == f"package {own}\n"


def test_then_the_systems_loader_by_the_soname(package, tmp_path):
    installed = tmp_path / "libspike_auth.so.1"
    shutil.copy(LIBRARY, installed)
    env = without_library(package, LD_LIBRARY_PATH=str(tmp_path))
    assert script(SHOW, env) == f"system {installed}\n"


def test_the_error_lists_paths_reasons_and_the_cure_and_the_current_directory_is_not_tried(package, tmp_path):
    for name in ("libspike_auth.so", "libspike_auth.so.1"):
        shutil.copy(LIBRARY, tmp_path / name)
    command = [sys.executable, "-c", LOAD]
    env = without_library(package)
    done = subprocess.run(command, cwd=tmp_path, env=env, text=True, capture_output=True, timeout=60, check=True)
    own = package / "spike_auth" / "libspike_auth.so"
    assert done.stdout == (
        f"{FAILED}  the package, '{own}': {MISSING}\n  the system's loader, 'libspike_auth.so.1': {MISSING}\n"
        "Install a spike-auth wheel for this platform; or install the library where the system's loader finds it\n"
        "(make install, then ldconfig); or set SPIKE_AUTH_LIBRARY to the path of libspike_auth.so.\n"
    )


def test_the_variable_is_the_only_candidate(package, tmp_path):
    shutil.copy(LIBRARY, package / "spike_auth" / "libspike_auth.so")
    absent = tmp_path / "absent.so"
    assert script(LOAD, environment(PYTHONPATH=str(package), SPIKE_AUTH_LIBRARY=str(absent))) == (
        f"{FAILED}  $SPIKE_AUTH_LIBRARY, '{absent}': {MISSING}\n"
        "Nothing else is tried while SPIKE_AUTH_LIBRARY is set. Correct or unset it.\n"
    )


def test_a_path_that_is_not_text_is_refused():
    env = {os.fsencode(name): os.fsencode(value) for name, value in environment().items()}
    env[b"SPIKE_AUTH_LIBRARY"] = b"/absent\xff"
    done = subprocess.run([sys.executable, "-c", LOAD], env=env, capture_output=True, timeout=60, check=True)
    assert b"Traceback" not in done.stdout + done.stderr
    assert done.stdout.startswith(f"{FAILED}  $SPIKE_AUTH_LIBRARY, ".encode())
    assert b": \n" not in done.stdout


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("unsigned spike_auth_abi_version(void) { return 2; }", "its ABI version is 2; this package needs 1"),
        (
            "unsigned spike_auth_abi_version(void) { return 1; }",
            "it has no function spike_auth_version, so it is older than this package",
        ),
        ("int nothing;", "it has no function spike_auth_abi_version, so it is not the spike_auth library"),
    ],
)
def test_another_library_is_refused(tmp_path, source, reason):
    other = tmp_path / "libspike_auth.so"
    (tmp_path / "other.c").write_text(source)
    project.run(project.CC, "-shared", "-fPIC", tmp_path / "other.c", "-o", other)
    assert f"  $SPIKE_AUTH_LIBRARY, '{other}': {reason}\n" in script(LOAD, environment(SPIKE_AUTH_LIBRARY=str(other)))


def test_a_file_that_is_not_a_library_is_refused(tmp_path):
    text = tmp_path / "text.so"
    text.write_text("no library" * 1000)
    assert "invalid ELF header" in script(LOAD, environment(SPIKE_AUTH_LIBRARY=str(text)))
    assert "the variable is empty" in script(LOAD, environment(SPIKE_AUTH_LIBRARY=""))


def test_the_error_is_an_import_error(tmp_path):
    absent = environment(SPIKE_AUTH_LIBRARY=str(tmp_path / "absent"))
    for line in ("from spike_auth import Client", "from spike_auth import sign_user", "import spike_auth.httpx"):
        code = f"try:\n    {line}\nexcept ImportError as error:\n    print(type(error).__name__, error.status.name)"
        assert script(code, absent) == "LibraryLoadError INTERNAL\n"
    assert script("import spike_auth; print(spike_auth.RateLimited.__module__)", absent) == "spike_auth\n"
    done = python("-c", "from spike_auth import Client", env=absent)
    assert done.returncode == 1
    assert f"\nspike_auth.LibraryLoadError: {FAILED}" in done.stderr


def test_another_implementation_of_python_is_refused_before_it_loads_anything(tmp_path):
    code = f"import sys; sys.implementation.name = 'pypy'\n{LOAD}"
    absent = environment(SPIKE_AUTH_LIBRARY=str(tmp_path / "absent"))
    assert script(code, absent) == "spike_auth runs on CPython, and this is pypy.\n"


def test_the_library_is_loaded_once_for_all_threads(package):
    shutil.copy(LIBRARY, package / "spike_auth" / "libspike_auth.so")
    code = (
        "import threading, spike_auth\n"
        "found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(spike_auth.Client)) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "print(len(set(found)))"
    )
    assert script(code, without_library(package)) == "1\n"


# ---- the package


def test_every_export_exists_and_is_documented():
    for name in spike_auth.__all__:
        value = getattr(spike_auth, name)
        assert value.__module__ == "spike_auth", name
        assert value.__doc__, name
        for attribute, member in vars(value).items():
            assert attribute.startswith("_") or not callable(member) or member.__doc__, f"{name}.{attribute}"
    assert {*spike_auth.__all__} <= {*dir(spike_auth)}
    with pytest.raises(AttributeError, match=re.escape("module 'spike_auth' has no attribute 'absent'")):
        spike_auth.absent


def test_optional_packages_are_not_imported():
    code = "import sys; from spike_auth import AsyncClient, Client; print({'requests', 'httpx'} & {*sys.modules})"
    assert script(code, environment()) == "set()\n"


def test_type_checkers_see_the_exports_only(tmp_path):
    mypy = project.ROOT / ".venv" / "bin" / "mypy"
    if not mypy.exists():
        pytest.skip("without mypy (make python)")
    program = tmp_path / "program.py"
    program.write_text("from spike_auth import Client, Clinet\nClient.from_env().token(1)\n")
    command = [mypy, "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    env = environment(MYPYPATH=str(SOURCE))
    done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=120, check=False)
    assert 'has no attribute "Clinet"' in done.stdout
    assert 'incompatible type "int"; expected "str"' in done.stdout
