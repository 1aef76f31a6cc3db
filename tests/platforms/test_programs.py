"""Programs of each platform, run here: on musl's own loader, and for arm64 under qemu."""

import os
import shutil
import subprocess
import sys
import unittest
from contextlib import contextmanager
from pathlib import Path

from support.project import ROOT, clean_env, sandbox, scratch, settings

from platforms.platform import BY_NAME, NATIVE, PLATFORMS, PYTHON, Platform, debian_root, need

GO = os.environ.get("GO", "go")
BINDING = ROOT / "bindings" / "go"
OFFLINE = ["boundary", "bulk", "environment"]
# The programs of tests/c that a platform runs, by how they are linked.
ALL = [*OFFLINE, "queue", "exchange", "random", "clock", "descriptor_limit", "cache_fork", "cache", "process",
       "descriptors", "fork", "store", "queue_fork"]
# Without those that count threads, because qemu has one of its own in each process, those that need seccomp(2), which
# qemu lacks, and those that fork while threads run, of which one hung there once.
UNDER_QEMU = [*OFFLINE, "exchange", "clock", "cache", "descriptors", "store"]
PROGRAMS = {
    "linux-amd64-musl": {"shared": ALL, "fully static": ALL},
    "linux-arm64-gnu": {"shared": UNDER_QEMU, "static": ["boundary", "exchange"]},
    "linux-arm64-musl": {"shared": ["exchange", "cache"], "fully static": [*OFFLINE, "exchange"]},
}
LIBRARY_IN_PYTHON = """
import spike_auth
info = spike_auth.library_info()
print(info.source, info.abi)
with spike_auth.Client.from_env() as client:
    print(client.sign("alice"))
    assert client.token("alice") == client.token("alice")
    print(client.stats().requests)
"""


def kinds(platform: Platform) -> list[str]:
    """How a program can be linked with its library."""
    return ["shared", "static"] if platform.libc == "gnu" else ["shared", "fully static"]


class CPrograms(unittest.TestCase):
    def check(self, name: str) -> None:
        platform = BY_NAME[name]
        command = [sys.executable, ROOT / "tests/c/run.py", "--cc", platform.compiler, "--fully-static",
                   "--lib-dir", platform.folder]
        names = [f"{program} ({kind})" for kind, programs in PROGRAMS[name].items() for program in programs]
        said = platform.run(*command, *names)
        print(f"{name}: {said.splitlines()[-1]}", flush=True)
        for chosen in names:
            self.assertIn(f"passed: {chosen}\n", said)

    def test_amd64_with_musl(self):
        self.check("linux-amd64-musl")

    def test_arm64_with_glibc(self):
        self.check("linux-arm64-gnu")

    def test_arm64_with_musl(self):
        self.check("linux-arm64-musl")


@contextmanager
def go_program(platform: Platform, kind: str):
    """An example of the Go binding, linked with a platform's library."""
    with scratch() as folder:
        native = (platform.folder / "native-static-libs").read_text().strip()
        description = (ROOT / "packaging" / "spike_auth.pc.in").read_text()
        for name, value in {"PREFIX": ROOT, "LIBDIR": platform.folder, "INCLUDEDIR": ROOT / "include", "VERSION": "1",
                            "NATIVE": native}.items():
            description = description.replace(f"@{name}@", str(value))
        (Path(folder) / "spike_auth.pc").write_text(description)
        tags = {"shared": "", "static": "spikeauth_static", "fully static": "spikeauth_static,netgo,osusergo"}[kind]
        external = "-static" if kind == "fully static" else f"-Wl,-rpath,{folder}"
        (Path(folder) / "libspike_auth.so.1").symlink_to(platform.shared)
        program = Path(folder) / "command"
        env = clean_env(GOOS="linux", GOARCH=platform.arch, CGO_ENABLED="1", CC=platform.compiler, GOFLAGS="",
                        PKG_CONFIG_PATH=folder, PKG_CONFIG_LIBDIR=folder, GOPROXY="off", GOTOOLCHAIN="local",
                        GOWORK="off")
        build = [GO, "build", "-tags", tags, "-ldflags", f"-linkmode external -extldflags '{external}'", "-o", program,
                 "./examples/command"]
        done = subprocess.run(build, cwd=BINDING, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=600, check=False)
        if done.returncode != 0:
            raise AssertionError(done.stdout)
        yield program


class GoPrograms(unittest.TestCase):
    def test_the_example_gets_a_token_on_each_platform(self):
        for platform in PLATFORMS:
            for kind in kinds(platform):
                with (self.subTest(f"{platform.name}, {kind}"), go_program(platform, kind) as program,
                      sandbox() as addresses):
                    said = platform.run(program, "alice", env=clean_env(**settings(addresses, "https")), timeout=60)
                    self.assertRegex(said, r"\AAuthorization: Bearer \S+\n\Z")

    def test_a_static_program_gets_a_token_in_an_empty_root(self):
        platform = BY_NAME[f"linux-{NATIVE}-musl"]
        unshare = need("unshare", "util-linux")
        with go_program(platform, "fully static") as program, sandbox() as addresses, scratch() as root:
            shutil.copy(program, root)
            shutil.copy(addresses["ca_file"], Path(root) / "ca.pem")
            # No /etc/hosts in there.
            address = addresses["https"].replace("localhost", "127.0.0.1")
            env = settings(addresses) | {"SPIKE_API_BASE_URL": address, "SPIKE_CA_FILE": "/ca.pem"}
            said = platform.run(unshare, "--user", "--map-root-user", f"--root={root}", "/command", "alice", env=env,
                                timeout=60)
            self.assertRegex(said, r"\AAuthorization: Bearer \S+\n\Z")
            self.assertEqual(sorted(path.name for path in Path(root).iterdir()), ["ca.pem", "command"])


class PythonPrograms(unittest.TestCase):
    """No package registry has a CPython for musl: there the wheel is not tried with its interpreter."""

    def test_a_token_on_arm64_with_glibc(self):
        platform = BY_NAME["linux-arm64-gnu"]
        library = platform.shared
        python = debian_root("python3") / "usr/bin/python3"
        with sandbox() as addresses:
            env = clean_env(**settings(addresses, "https"), SPIKE_AUTH_LIBRARY=str(library),
                            PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(ROOT / "bindings/python/src"))
            machine = platform.run(python, "-c", "import platform; print(platform.machine())", env=env, timeout=60)
            self.assertEqual(machine.strip(), "aarch64")
            said = platform.run(python, "-c", LIBRARY_IN_PYTHON, env=env, timeout=60).splitlines()
            env["SPIKE_AUTH_LIBRARY"] = str(BY_NAME[f"linux-{NATIVE}-gnu"].shared)
            here = subprocess.run([PYTHON, "-c", LIBRARY_IN_PYTHON], env=env, text=True, capture_output=True,
                                  check=True, timeout=60)
            self.assertEqual(said[1:], here.stdout.splitlines()[1:])


class Commands(unittest.TestCase):
    def test_the_doctor_of_each_platform(self):
        for platform in PLATFORMS:
            with self.subTest(platform.name), scratch() as folder, sandbox() as addresses:
                (Path(folder) / "libspike_auth.so.1").symlink_to(platform.shared)
                env = clean_env(LD_LIBRARY_PATH=folder, **settings(addresses, "https"))
                said = platform.run(platform.program, "doctor", "alice", env=env, timeout=60)
                self.assertTrue(said.endswith("\n\nIt works.\n"), said)
                self.assertEqual(said.splitlines()[0].endswith(", static"), platform.libc == "musl")


class Sandboxes(unittest.TestCase):
    def test_the_sandbox_of_each_platform_starts(self):
        for platform in PLATFORMS:
            with self.subTest(platform.name):
                said = platform.run(platform.sandbox, "--help", timeout=60)
                self.assertIn("spike-auth-sandbox", said)


if __name__ == "__main__":
    unittest.main()
