"""Runs the suite of the Python binding with each CPython from 3.10 of this machine, also the system's.

With `--once`, only with the newest. All other arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.project import ROOT, SHARED, clean_env

BINDING = ROOT / "bindings" / "python"
REQUIREMENTS = BINDING / "requirements-test.txt"
# A permanent environment for each of them.
ENVIRONMENTS = ROOT / "target" / "python"
# Used also if another one has the same version: a distribution builds and patches its own.
SYSTEM = "/usr/bin/python3"

OLDEST, NEWEST = 10, 20
# Another implementation or an older version prints nothing.
TELL = f"""
import importlib.util, sys, sysconfig
if sys.implementation.name == "cpython" and sys.version_info >= (3, {OLDEST}):
    threading = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print("%d.%d" % sys.version_info[:2] + threading, sys.version.split()[0] + threading, sys.executable, sep="\\n")
    print(" ".join(sys.version.split()))
    print(*(name for name in ("_ctypes", "_ssl", "venv") if importlib.util.find_spec(name) is None))
"""


@dataclass(frozen=True)
class Interpreter:
    series: str
    version: str
    path: str
    build: str  # with date and compiler
    missing: tuple[str, ...]  # modules that the suite needs and some builds lack

    @property
    def name(self) -> str:
        return f"CPython {self.version}" + (f" ({SYSTEM})" if self.path == SYSTEM else "")


def ask(path: str) -> Interpreter | None:
    done = subprocess.run([path, "-I", "-c", TELL], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout:
        return None
    series, version, executable, build, missing = done.stdout.splitlines()
    return Interpreter(series, version, SYSTEM if path == SYSTEM else executable, build, (*missing.split(),))


def candidates() -> list[str]:
    """This one first, then those of the PATH, then all that pyenv has installed."""
    names = [f"python3.{minor}{kind}" for minor in range(OLDEST, NEWEST) for kind in ("", "t")]
    found = [sys.executable, *filter(None, map(shutil.which, ["python3", *names]))]
    pyenv = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    return found + sorted(map(str, pyenv.glob("versions/*/bin/python3")))


def interpreters() -> dict[str, Interpreter]:
    """One of each series by name, the oldest first, and the system's if it is another build."""
    found: dict[str, Interpreter] = {}
    for interpreter in filter(None, map(ask, candidates())):
        found.setdefault(interpreter.series, interpreter)
    system = ask(SYSTEM) if Path(SYSTEM).exists() else None
    if system and found.setdefault(system.series, system).build != system.build:
        found[f"{system.series}-system"] = system
    return dict(sorted(found.items(), key=lambda item: (len(item[1].series), item[0])))


def left_out(interpreter: Interpreter) -> str | None:
    """The reason why the suite cannot run with it, and the cure."""
    if not interpreter.missing:
        return None
    cure = "apt-get install libpython3-stdlib" if interpreter.path == SYSTEM else "rebuild it with their dependencies"
    return f"CPython {interpreter.version} at {interpreter.path} has no {', '.join(interpreter.missing)} ({cure})"


def environment(name: str, executable: str, requirements: Path = REQUIREMENTS) -> Path:
    """The interpreter of a virtual environment with the requirements, made again when they change."""
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = f"{executable}\n{requirements.read_text()}"
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        # Without pip: not every system's Python can install it.
        subprocess.run([executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [ROOT / ".venv" / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--python", python, "install", "-r", requirements], check=True)
        stamp.write_text(wanted)
    return python


def suite(python: Path) -> tuple[bool, str]:
    """Whether it passes, and its output. Warnings are errors."""
    chosen = [argument for argument in sys.argv[1:] if argument != "--once"]
    command = [python, "-X", "dev", "-W", "error", "-m", "pytest", "--quiet", *chosen]
    done = subprocess.run(command, cwd=BINDING, env=clean_env(SPIKE_AUTH_LIBRARY=str(SHARED)), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0, done.stdout


def main() -> int:
    found = interpreters()
    if "--once" in sys.argv:
        found = dict([*found.items()][-1:])
    reasons = [reason for reason in map(left_out, found.values()) if reason]
    for reason in reasons:
        print(f"--- left out: {reason}", flush=True)
    pythons = {each: environment(name, each.path) for name, each in found.items() if not each.missing}
    failed = []
    # The suite mostly waits: two can run at once.
    with ThreadPoolExecutor(2) as pool:
        for interpreter, (passed, said) in zip(pythons, pool.map(suite, pythons.values()), strict=True):
            print(f"--- {interpreter.name}\n{said}", flush=True)
            if not passed:
                failed.append(interpreter.name)
    print("Run with", ", ".join(interpreter.name for interpreter in pythons))
    if failed:
        print("Failed with", ", ".join(failed))
    if reasons and os.environ.get("CI"):
        print("In CI every installed Python must be able to run the suite.")
    return 1 if failed or not pythons or (reasons and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())
