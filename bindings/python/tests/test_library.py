"""Where the library is looked for, and what is said if it is not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import spike_auth
from helpers import SOURCE, environment, python, script
from support import project
from support.project import CC

SHOW = "import spike_auth; info = spike_auth.library_info(); print(info.source, info.path)"
LOAD = "import spike_auth\ntry: spike_auth.Client\nexcept spike_auth.LibraryLoadError as error: print(error)"
LIBRARY = Path(os.environ["SPIKE_AUTH_LIBRARY"]).resolve()


def without_variable(**more: str) -> dict[str, str]:
    env = environment(**more)
    del env["SPIKE_AUTH_LIBRARY"]
    return env


@pytest.fixture
def package(tmp_path):
    """A copy of the package, without a library in it."""
    copy = tmp_path / "site"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return copy


def stub(folder: Path, name: str, source: str) -> Path:
    (folder / "stub.c").write_text(source)
    built = folder / name
    subprocess.run([CC, "-shared", "-fPIC", folder / "stub.c", "-o", built], check=True, timeout=60)
    return built


def test_the_variable_comes_first(package, tmp_path):
    shutil.copy(LIBRARY, package / "spike_auth" / "libspike_auth.so")
    other = tmp_path / "other.so"
    shutil.copy(LIBRARY, other)
    assert script(SHOW, environment(PYTHONPATH=str(package), SPIKE_AUTH_LIBRARY=str(other))) == f"environment {other}\n"


def test_then_the_file_in_the_package(package):
    own = package / "spike_auth" / "libspike_auth.so"
    shutil.copy(LIBRARY, own)
    assert script(SHOW, without_variable(PYTHONPATH=str(package))) == f"package {own}\n"


def test_then_the_systems_loader_by_the_soname(package, tmp_path):
    installed = tmp_path / "libspike_auth.so.1"
    shutil.copy(LIBRARY, installed)
    env = without_variable(PYTHONPATH=str(package), LD_LIBRARY_PATH=str(tmp_path))
    assert script(SHOW, env) == f"system {installed}\n"


def test_never_the_current_directory(package, tmp_path):
    for name in ("libspike_auth.so", "libspike_auth.so.1"):
        shutil.copy(LIBRARY, tmp_path / name)
    command = [sys.executable, "-c", LOAD]
    env = without_variable(PYTHONPATH=str(package))
    done = subprocess.run(command, cwd=tmp_path, env=env, text=True, capture_output=True, timeout=60, check=True)
    assert done.stdout.startswith("The library of spike_auth cannot be loaded. Tried:\n")


def test_what_is_tried_and_why_it_fails_and_the_cure(package):
    said = script(LOAD, without_variable(PYTHONPATH=str(package)))
    missing = "cannot open shared object file: No such file or directory"
    own = package / "spike_auth" / "libspike_auth.so"
    assert said == (
        "The library of spike_auth cannot be loaded. Tried:\n"
        f"  the package's own, '{own}': {missing}\n"
        f"  the system's loader, 'libspike_auth.so.1': {missing}\n"
        "Install a wheel of spike-auth for this platform; or install the library where the system's loader finds\n"
        "it (make install, then ldconfig); or set SPIKE_AUTH_LIBRARY to the path of libspike_auth.so.\n"
    )


def test_the_variable_is_the_only_candidate(package, tmp_path):
    shutil.copy(LIBRARY, package / "spike_auth" / "libspike_auth.so")
    absent = tmp_path / "absent.so"
    said = script(LOAD, environment(PYTHONPATH=str(package), SPIKE_AUTH_LIBRARY=str(absent)))
    assert said == (
        "The library of spike_auth cannot be loaded. Tried:\n"
        f"  $SPIKE_AUTH_LIBRARY, '{absent}': cannot open shared object file: No such file or directory\n"
        "Nothing else is tried while SPIKE_AUTH_LIBRARY is set: correct it, or unset it.\n"
    )


def test_a_path_that_is_no_text_is_refused():
    env = {os.fsencode(name): os.fsencode(value) for name, value in environment().items()}
    env[b"SPIKE_AUTH_LIBRARY"] = b"/absent\xff"
    done = subprocess.run([sys.executable, "-c", LOAD], env=env, capture_output=True, timeout=60, check=True)
    assert b"Traceback" not in done.stdout + done.stderr
    assert done.stdout.startswith(b"The library of spike_auth cannot be loaded. Tried:\n  $SPIKE_AUTH_LIBRARY, ")
    assert b": \n" not in done.stdout


def test_what_is_not_in_the_package_is_not_for_type_checkers_either(tmp_path):
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


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("unsigned spike_auth_abi_version(void) { return 2; }", "its ABI is 2, and this package needs 1"),
        (
            "unsigned spike_auth_abi_version(void) { return 1; }",
            "it has no function spike_auth_version, so it is older than this package",
        ),
        ("int nothing;", "it has no function spike_auth_abi_version, so it is not the library of spike_auth"),
    ],
)
def test_another_library_is_refused(tmp_path, source, reason):
    other = stub(tmp_path, "libspike_auth.so", source)
    said = script(LOAD, environment(SPIKE_AUTH_LIBRARY=str(other)))
    assert f"  $SPIKE_AUTH_LIBRARY, '{other}': {reason}\n" in said


def test_no_library_at_all_is_refused(tmp_path):
    text = tmp_path / "text.so"
    text.write_text("no library" * 1000)
    assert "invalid ELF header" in script(LOAD, environment(SPIKE_AUTH_LIBRARY=str(text)))
    assert "the variable is empty" in script(LOAD, environment(SPIKE_AUTH_LIBRARY=""))


def test_the_error_is_one_of_an_import(tmp_path):
    absent = environment(SPIKE_AUTH_LIBRARY=str(tmp_path / "absent"))
    for line in ("from spike_auth import Client", "from spike_auth import sign_user", "import spike_auth.httpx"):
        code = f"try:\n    {line}\nexcept ImportError as error:\n    print(type(error).__name__, error.status.name)"
        assert script(code, absent) == "LibraryLoadError INTERNAL\n"
    assert script("import spike_auth; print(spike_auth.RateLimited.__module__)", absent) == "spike_auth\n"


def test_nothing_optional_is_imported():
    code = "import sys; from spike_auth import AsyncClient, Client; print({'requests', 'httpx'} & {*sys.modules})"
    assert script(code, environment()) == "set()\n"


def test_everything_named_is_there():
    for name in spike_auth.__all__:
        assert getattr(spike_auth, name).__module__ == "spike_auth", name
        assert getattr(spike_auth, name).__doc__, name
    assert {*spike_auth.__all__} <= {*dir(spike_auth)}
    with pytest.raises(AttributeError, match=re.escape("module 'spike_auth' has no attribute 'absent'")):
        spike_auth.absent


def test_everything_public_has_a_docstring():
    for name in spike_auth.__all__:
        for attribute, value in vars(getattr(spike_auth, name)).items():
            if not attribute.startswith("_") and callable(value):
                assert value.__doc__, f"{name}.{attribute}"


def test_the_library_is_found_once_for_all_threads(package):
    shutil.copy(LIBRARY, package / "spike_auth" / "libspike_auth.so")
    code = (
        "import threading, spike_auth\n"
        "found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(spike_auth.Client)) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "print(len(set(found)))"
    )
    assert script(code, without_variable(PYTHONPATH=str(package))) == "1\n"


def test_a_failure_is_said_in_a_traceback_too(tmp_path):
    done = python("-c", "from spike_auth import Client", env=environment(SPIKE_AUTH_LIBRARY=str(tmp_path / "absent")))
    assert done.returncode == 1
    assert "\nspike_auth.LibraryLoadError: The library of spike_auth cannot be loaded. Tried:\n" in done.stderr
