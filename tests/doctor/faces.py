"""The two faces of the doctor: the program spike-auth, and the Python package. They print the same."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from support.project import CC, HEADER, RELEASE, ROOT, SHARED, clean_env, run

HERE = Path(__file__).parent
CLI = ROOT / "cli"
PROGRAM = RELEASE / "spike-auth"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
LINK = [f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", "-ldl", f"-Wl,-rpath,{RELEASE}"]


class Face:
    """One of them: `start` is how it is started, with the library of `env`."""

    def __init__(self, name: str, start: list[object], **env: str) -> None:
        self.name, self.start, self._env = name, [str(word) for word in start], env

    def env(self, **variables: str) -> dict[str, str]:
        return clean_env(**{"TERM": "xterm", **self._env, **variables})

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.start, *arguments], env=self.env(**variables), text=True, capture_output=True,
                              timeout=60, check=False)

    def on_terminal(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """The exit code, and what it prints to a terminal."""
        ours, theirs = pty.openpty()
        command, env = [*self.start, *arguments], self.env(**variables)
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            with subprocess.Popen(command, env=env, stdout=theirs, stderr=theirs) as process:
                os.close(theirs)
                shown = b""
                with suppress(OSError):  # the last one has closed it
                    while part := terminal.read(1 << 16):
                        shown += part
        return process.returncode, shown.decode().replace("\r\n", "\n")


def python_face(library: Path) -> Face:
    source = ROOT / "bindings" / "python" / "src"
    start = [sys.executable, "-B", "-X", "dev", "-W", "error", "-m", "spike_auth"]
    return Face("python", start, SPIKE_AUTH_LIBRARY=str(library), PYTHONPATH=str(source))


def real_faces() -> list[Face]:
    return [Face("program", [PROGRAM], LD_LIBRARY_PATH=str(RELEASE)), python_face(SHARED)]


def faces_on_reports(folder: Path) -> list[Face]:
    """Their library hands out the report in the file that REPORT names. The program has sanitizers."""
    program, library = folder / "spike-auth", folder / "libreports.so"
    run(CC, *WARNINGS, *SANITIZERS, *CLI.glob("*.c"), HERE / "report.c", *LINK, "-o", program)
    run(CC, *WARNINGS, "-shared", "-fPIC", HERE / "report.c", "-Wl,--no-as-needed", *LINK, "-o", library)
    return [Face("program", [program]), python_face(library)]


def timeless(text: str) -> str:
    """Without the times that were measured, in a table or a report."""
    return re.sub(r'[ \d]{6}\.\d ms|"ms":[\d.]+', "MS", text)
