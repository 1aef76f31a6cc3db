"""A root folder that holds a program and the system's libraries that it asks for, and nothing else."""

import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .project import clean_env, run, settings

# The user of a namespace of its own may change the root too.
CHROOT = ["chroot"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "chroot"]


@dataclass(frozen=True)
class Machine:
    """How programs for a platform are built and run here."""

    compiler: list[str]
    # Where the C library for programs of this machine is.
    libraries: str
    emulator: str = ""

    def missing(self) -> str:
        """What is to be installed, or nothing."""
        for program in filter(None, [self.compiler[0], self.emulator]):
            if shutil.which(program) is None:
                return program
        return "" if Path(self.libraries).exists() else self.libraries


@dataclass
class CleanRoot:
    folder: Path
    machine: Machine
    env: dict[str, str] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def __post_init__(self):
        for name in ("lib", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if self.machine.emulator:
            shutil.copy(shutil.which(self.machine.emulator), self.folder)

    def add(self, program: Path) -> None:
        """Copies the loader and the libraries that a program and its libraries ask for and the root does not have."""
        elf = run("readelf", "-ldW", program)
        if loader := re.search(r"interpreter: (\S+)\]", elf):
            self._copied(loader[1])
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", elf):
            if name not in self.known:
                self.known.add(name)
                self.add(next(self.folder.rglob(name), None) or self._copied(f"/lib/{name}"))

    def _copied(self, place: str) -> Path:
        target = self.folder / place.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source = Path(self.machine.libraries) / target.name
            shutil.copy(source if source.exists() else place, target)
        return target

    def command(self, program: str) -> list[str]:
        emulator = ["/" + Path(self.machine.emulator).name] if self.machine.emulator else []
        return [*CHROOT, str(self.folder), *emulator, program]

    @contextmanager
    def sandbox(self, program: str):
        """Runs the sandbox in the root and yields the environment of its users."""
        self.add(self.folder / program.lstrip("/"))
        env = clean_env(TMPDIR="/tmp", **self.env)
        with subprocess.Popen(self.command(program), stdout=subprocess.PIPE, text=True, env=env) as process:
            try:
                yield {**env, **settings(json.loads(process.stdout.readline()), "https")}
            finally:
                process.terminate()

    def run(self, program: Path, env: dict[str, str], *arguments: str) -> str:
        """Runs a program that is at the top of the root."""
        self.add(program)
        return run(*self.command(f"/{program.name}"), *arguments, env=env, timeout=60)
