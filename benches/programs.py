"""Builds the measured programs, and runs their steps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
CC = os.environ.get("CC", "cc")
CARGO = os.environ.get("CARGO", "cargo")
GO = os.environ.get("GO", "go")

# Variables of the machine that could change a figure.
_FOREIGN = ("SPIKE_", "SSL_CERT_", "OPENSSL_", "CURL_", "REQUESTS_", "LD_", "GODEBUG", "GOGC", "GOMAXPROCS",
            "NODE_OPTIONS", "PYTHON", "MALLOC_", "GLIBC_TUNABLES", "RUST_BACKTRACE")


class MissingTool(Exception):
    """A tool that a part of the benchmarks needs, with the command that installs it."""


def clean_env(**extra: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_FOREIGN) and not name.lower().endswith("_proxy")
    }
    return {**kept, **extra}


def run(*command: object, both: bool = False, env: dict[str, str] | None = None) -> str:
    """Runs a command and returns its stdout (`both`: stderr too); a failure ends the run with its output."""
    done = subprocess.run(
        [str(part) for part in command], env=env or clean_env(), text=True, timeout=600, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if both else subprocess.PIPE,
    )
    if done.returncode != 0:
        line = " ".join(map(str, command))
        raise SystemExit(f"{line}\nexited with {done.returncode}\n{done.stdout}{done.stderr or ''}")
    return done.stdout


def need(tool: str, package: str) -> str:
    found = shutil.which(tool)
    if not found:
        raise MissingTool(f"{tool} ({package})")
    return found


def need_go() -> str:
    return need(GO, "apt-get install golang-go, 1.24 or newer")


def abi_version() -> str:
    """The number at the end of the soname."""
    header = (ROOT / "include" / "spike_auth.h").read_text()
    found = re.search(r"#define SPIKE_AUTH_ABI_VERSION (\d+)", header)
    if not found:
        raise SystemExit("include/spike_auth.h names no SPIKE_AUTH_ABI_VERSION")
    return found[1]


@dataclass
class Cost:
    """Nanoseconds per operation."""

    cpu: float
    wall: float


def pin(process: subprocess.Popen[str], cores: set[int]) -> None:
    """Runs all threads of a process, and those that it starts later, on `cores` only."""
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        os.sched_setaffinity(int(thread), cores)


class Program:
    """A running program that runs steps on request and answers with their cost (step.h)."""

    def __init__(self, *command: object, **env: str) -> None:
        self.name = Path(str(command[0])).name
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=clean_env(**env),
        )
        assert self.process.stdin and self.process.stdout  # they are pipes
        self.requests, self.answers = self.process.stdin, self.process.stdout

    def step(self, name: str, count: int) -> tuple[float, float]:
        """The two figures of a step."""
        self.requests.write(f"{name} {count}\n")
        self.requests.flush()
        answer = self.answers.readline().split()
        if len(answer) != 2:
            raise SystemExit(f"{self.name} {name}: ended with {self.process.wait()}")
        return float(answer[0]), float(answer[1])

    def measure(self, name: str, count: int) -> Cost:
        cpu, wall = self.step(name, count)
        return Cost(cpu / count, wall / count)

    def private_memory(self) -> int:
        """Bytes that the process has written to, so that no other shares them."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024
        raise SystemExit(f"/proc says nothing of the memory of {self.name}")

    def end(self) -> None:
        self.requests.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Workshop:
    """Builds everything in one directory, against one built library."""

    def __init__(self, directory: Path, lib_dir: Path) -> None:
        self.directory = directory
        built = lib_dir / "libspike_auth.so"
        if not built.exists():
            raise SystemExit(f"There is no libspike_auth.so in {lib_dir}. Build it with: make")
        # A copy: a build during the run changes no figure.
        self.lib_dir = directory / "lib"
        self.lib_dir.mkdir()
        self.library = Path(shutil.copy(built, self.lib_dir))
        (self.lib_dir / f"libspike_auth.so.{abi_version()}").symlink_to(self.library.name)

    def compile_c(self, source: str, *flags: object) -> Path:
        output = self.directory / Path(source).stem
        run(CC, "-O2", "-std=gnu11", "-Wall", "-Wextra", f"-I{ROOT / 'include'}", BENCHES / source, "-o", output,
            *flags, "-pthread", "-ldl")
        return output

    def link_spike(self) -> list[str]:
        return [f"-L{self.lib_dir}", f"-Wl,-rpath,{self.lib_dir}", "-lspike_auth"]

    def has_header(self, header: str) -> bool:
        check = subprocess.run([CC, "-E", "-x", "c", "-", "-o", os.devnull], input=f"#include <{header}>\n",
                               text=True, stderr=subprocess.DEVNULL, check=False)
        return check.returncode == 0

    def build_limit(self) -> list[str]:
        """The flags that link the limit."""
        target = self.directory / "limit"
        run(CARGO, "build", "--release", "--locked", "--manifest-path", BENCHES / "limit" / "Cargo.toml",
            env=clean_env(CARGO_TARGET_DIR=str(target)))
        release = target / "release"
        return [f"-L{release}", f"-Wl,-rpath,{release}", "-llimit"]

    def build_go(self, source: str) -> Path:
        go = need_go()
        output = self.directory / f"{Path(source).stem}_go"
        run(go, "build", "-o", output, BENCHES / "peers" / source, env=clean_env(GO111MODULE="off"))
        return output

    def build_go_module(self, *sources: str) -> Path:
        """A peer that needs modules of others, which are downloaded."""
        go = need_go()
        package = self.directory / f"{Path(sources[-1]).stem}_go"
        package.mkdir()
        for name in (*sources, "go.mod", "go.sum"):
            shutil.copy(BENCHES / "peers" / name, package)
        env = clean_env(GO111MODULE="on", GOWORK="off", GOFLAGS="", GOTOOLCHAIN="local")
        try:
            subprocess.run([go, "mod", "download"], cwd=package, env=env, check=True, capture_output=True, timeout=300)
        except subprocess.SubprocessError as error:
            raise MissingTool("the Go modules of benches/peers/go.mod (a connection to a Go module proxy)") from error
        run(go, "build", "-C", package, "-o", "program", ".", env=env)
        return package / "program"

    def build_go_binding(self, source: str) -> Path:
        """A program of the Go binding: the peer's source, and the binding's file that replaces parts of it."""
        go = need_go()
        need("pkg-config", "apt-get install pkg-config")
        found = ROOT / "target" / "go" / "spike_auth.pc"
        if not found.exists():
            raise MissingTool("target/go/spike_auth.pc, by which the Go binding finds the library (make go)")
        pc = re.sub(r"^libdir=.*", f"libdir={self.lib_dir}", found.read_text(), flags=re.MULTILINE)
        (self.directory / "spike_auth.pc").write_text(pc)
        # Under its own path: go caches a package by path, without pkg-config's output.
        binding = self.directory / "go_binding"
        if not binding.exists():
            binding.symlink_to(ROOT / "bindings" / "go")
        work = self.directory / "go.work"
        work.write_text(f"go 1.24\nuse {binding}\n")
        package = self.directory / f"{Path(source).stem}_go_binding"
        package.mkdir(exist_ok=True)
        files = [shutil.copy(BENCHES / of / source, package / f"{of}_{source}") for of in ("peers", "bindings")]
        output = package / "program"
        run(go, "build", "-o", output, *files,
            env=clean_env(GOWORK=str(work), GO111MODULE="on", GOFLAGS="", GOPROXY="off", GOTOOLCHAIN="local",
                          CGO_ENABLED="1", PKG_CONFIG_PATH=str(self.directory)))
        return output

    @property
    def python_binding(self) -> dict[str, str]:
        """The variables by which a program finds the Python binding, and the binding finds the measured library."""
        package = ROOT / "bindings" / "python" / "src"
        return {"PYTHONPATH": f"{BENCHES}{os.pathsep}{package}", "SPIKE_AUTH_LIBRARY": str(self.library)}

    def python_with(self, *packages: str) -> Path:
        """The Python of a virtual environment with `packages`."""
        venv = self.directory / "venv"
        python = venv / "bin" / "python"
        command = f"{Path(sys.executable).name} -m pip install {' '.join(packages)}"
        try:
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True, timeout=300)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
                           check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingTool(f"the Python packages {', '.join(packages)} ({command}; python3-venv is needed too)"
                              ) from error
        return python
