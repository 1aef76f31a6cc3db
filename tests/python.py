"""Runs the suite of the Python binding with every CPython from 3.10 up that this machine has."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.project import ROOT, SHARED, clean_env

BINDING = ROOT / "bindings" / "python"
REQUIREMENTS = BINDING / "requirements-test.txt"
# For one environment for each of them, which stays.
ENVIRONMENTS = ROOT / "target" / "python"

OLDEST, NEWEST = 10, 20
# Nothing is printed by another implementation or an older one.
TELL = f"""
import sys, sysconfig
if sys.implementation.name == "cpython" and sys.version_info >= (3, {OLDEST}):
    threading = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print("%d.%d" % sys.version_info[:2] + threading, sys.version.split()[0] + threading, sys.executable)
"""


def candidates() -> list[str]:
    """This one first, then what the PATH has, then what pyenv has installed, whether it is on the PATH or not."""
    names = [f"python3.{minor}{kind}" for minor in range(OLDEST, NEWEST) for kind in ("", "t")]
    found = [sys.executable, *filter(None, map(shutil.which, ["python3", *names]))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return found + sorted(map(str, pyenv.glob("versions/*/bin/python3")))


def interpreters() -> dict[str, tuple[str, str]]:
    """Version and path by the version's first two numbers, the oldest first."""
    found: dict[str, tuple[str, str]] = {}
    for path in candidates():
        done = subprocess.run([path, "-I", "-c", TELL], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout:
            series, version, executable = done.stdout.split(maxsplit=2)
            found.setdefault(series, (version, executable.strip()))
    return dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))


def environment(series: str, executable: str) -> Path:
    """A virtual environment with what the suite needs, made again when that changes; its interpreter."""
    folder = ENVIRONMENTS / series
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        # Without a pip of its own: not every system's Python can install one.
        subprocess.run([executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [ROOT / ".venv" / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--python", python, "install", "-r", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return python


def suite(python: Path) -> tuple[bool, str]:
    """Whether it passes, and what it says. Warnings are errors."""
    command = [python, "-X", "dev", "-W", "error", "-m", "pytest", "--quiet", *sys.argv[1:]]
    done = subprocess.run(command, cwd=BINDING, env=clean_env(SPIKE_AUTH_LIBRARY=str(SHARED)), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0, done.stdout


def main() -> int:
    found = interpreters()
    pythons = [environment(series, executable) for series, (_, executable) in found.items()]
    versions = [version for version, _ in found.values()]
    failed = []
    # The suite waits more than it works: two at once do not disturb each other.
    with ThreadPoolExecutor(2) as pool:
        for version, (passed, said) in zip(versions, pool.map(suite, pythons), strict=True):
            print(f"--- CPython {version}\n{said}", flush=True)
            if not passed:
                failed.append(version)
    print("Run with CPython", ", ".join(versions))
    if failed:
        print("Failed with", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
