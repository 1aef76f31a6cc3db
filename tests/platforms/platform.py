"""A built platform, and how its programs are compiled and run here."""

import functools
import os
import platform
import shutil
import subprocess
import unittest
from dataclasses import dataclass
from pathlib import Path

from support.project import ROOT, clean_env

BUILT = ROOT / "target" / "platforms"
PYTHON = ROOT / ".venv" / "bin" / "python"
# Debian's packages for arm64, unpacked: its libc and Python, and musl. Kept from one run to the next.
ROOTS = ROOT / "target" / "arm64"
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def missing(reason: str) -> Exception:
    """What a test raises if a tool is not here: in CI that is a failure."""
    return AssertionError(reason) if os.environ.get("CI") else unittest.SkipTest(reason)


def need(tool: str, package: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise missing(f"{tool} is not installed (install with: apt-get install {package})")
    return path


@dataclass(frozen=True)
class Platform:
    arch: str
    libc: str

    @property
    def name(self) -> str:
        return f"linux-{self.arch}-{self.libc}"

    @property
    def machine(self) -> str:
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.arch]

    @property
    def folder(self) -> Path:
        """Where it is built. A platform that cannot be had is no failure, in CI neither: the build said why."""
        reason = BUILT / self.name / "skipped"
        if reason.exists():
            raise unittest.SkipTest(f"{self.name} was not built: {reason.read_text().strip()}")
        return BUILT / self.name

    @property
    def shared(self) -> Path:
        return self.folder / "libspike_auth.so"

    @property
    def archive(self) -> Path:
        return self.folder / "libspike_auth.a"

    @property
    def program(self) -> Path:
        return self.folder / "spike-auth"

    @property
    def sandbox(self) -> Path:
        return self.folder / "spike-auth-sandbox"

    @property
    def compiler(self) -> str:
        """A C compiler that makes programs for it."""
        if self.libc == "gnu":
            if self.arch == NATIVE:
                return need("gcc", "gcc")
            return need(f"{self.machine}-linux-gnu-gcc", f"gcc-{self.machine.replace('_', '-')}-linux-gnu")
        if self.arch == NATIVE:
            # musl's own folders have no headers of the kernel.
            kernel = ["/usr/include", f"/usr/include/{self.machine}-linux-gnu"]
            return " ".join([need("musl-gcc", "musl-tools"), *(f"-idirafter {folder}" for folder in kernel)])
        # The C suite keeps HOME from what it runs. There zig has built musl for cargo already.
        cache = os.environ.get("ZIG_GLOBAL_CACHE_DIR", Path.home() / ".cache/zig")
        zig = f"env ZIG_GLOBAL_CACHE_DIR={cache} {PYTHON} -m ziglang cc"
        return f"{zig} -target {self.machine}-linux-musl -fno-sanitize=undefined"

    def loaders(self) -> Path:
        """The root with the loader and the C library of another processor."""
        return debian_root("musl") if self.libc == "musl" else debian_root("python3")

    def run(self, *command: object, env: dict[str, str] | None = None, timeout: int = 600, **options) -> str:
        """Runs a command in which programs for this platform start as if they were for this processor."""
        env = env or clean_env()
        prefix = []
        if self.arch != NATIVE:
            prefix = emulating()
            env = env | {"QEMU_LD_PREFIX": str(self.loaders())}
        words = [str(word) for word in (*prefix, *command)]
        done = subprocess.run(words, env=env, text=True, errors="replace", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout, check=False, **options)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}\nexited with {done.returncode}\n{done.stdout}")
        return done.stdout


PLATFORMS = [Platform(arch, libc) for libc in ("gnu", "musl") for arch in ("amd64", "arm64")]
BY_NAME = {one.name: one for one in PLATFORMS}


@functools.cache
def emulating() -> list[str]:
    """The words before a command that make the kernel start programs of the other processor."""
    emulator = need("qemu-aarch64-static", "qemu-user-static")
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh",
             str(Path(__file__).parent / "binfmt.sh"), emulator]
    done = subprocess.run([*words, "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        # Not a matter of what is installed.
        raise unittest.SkipTest("no program for arm64 can be run: the kernel gives user namespaces no binfmt_misc of "
                                f"their own (Linux 6.7 and newer do): {done.stdout.strip()}")
    return words


@functools.cache
def debian_root(package: str) -> Path:
    """A folder with a package of Debian's for arm64, and all that it depends on. Changes nothing of the system."""
    root = ROOTS / package
    if (root / "complete").exists():
        return root
    need("apt-get", "apt")
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("apt/lists/partial", "apt/cache/archives/partial"):
        (root / folder).mkdir(parents=True)
    (root / "apt/status").touch()  # as if nothing were installed
    apt = ["apt-get", "-qq"]
    for option in ("APT::Architecture=arm64", "APT::Architectures=arm64", f"Dir::State::lists={root}/apt/lists",
                   f"Dir::State::status={root}/apt/status", f"Dir::Cache={root}/apt/cache", "Debug::NoLocking=1",
                   "APT::Sandbox::User=root", "Acquire::Check-Valid-Until=false"):
        apt += ["-o", option]
    for command in ([*apt, "update"], [*apt, "install", "--download-only", "--no-install-recommends", "-y", package]):
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                              check=False)
        if done.returncode != 0:
            raise missing(f"{' '.join(command)}: {done.stdout}")
    for folder in ("lib", "bin"):  # as in an installed system
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for archive in (root / "apt/cache/archives").glob("*.deb"):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as contents:
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", root], stdin=contents.stdout, check=True)
    (root / "complete").touch()
    return root
