"""The result of `make dist`, which ends with this: each file is unpacked or installed in a clean root and used."""

import hashlib
import os
import re
import shutil
import stat
import sys
import tarfile
import unittest
import zipfile
from pathlib import Path

from support.cleanroot import CleanRoot, Machine
from support.project import CC, CXX, ROOT, SANDBOX, clean_env, run, sandbox, scratch, settings

sys.path.insert(0, str(ROOT / "packaging"))
import dist  # noqa: E402

ZIG = [str(ROOT / ".venv" / "bin" / "python"), "-m", "ziglang", "cc", "-target"]
MACHINES = {
    "linux-amd64-gnu": Machine([CC], "/lib/x86_64-linux-gnu"),
    "linux-arm64-gnu": Machine(["aarch64-linux-gnu-gcc"], "/usr/aarch64-linux-gnu/lib", "qemu-aarch64-static"),
    "linux-amd64-musl": Machine(["musl-gcc"], "/usr/lib/x86_64-linux-musl"),
    # No package has musl's loader for another machine, so its program is static.
    "linux-arm64-musl": Machine([*ZIG, "aarch64-linux-musl", "-static"], "/", "qemu-aarch64-static"),
}
PACKED = [platform for platform in dist.ALL if not (platform.built / "skipped").exists()]
HERE = dist.ALL[0]
# In bytes. Wheels: 1.4 MiB.
LIMITS = {".whl": 1_468_006, ".gz": 8_000_000, ".deb": 1_400_000}


def built(platform: dist.Platform, name: str) -> bytes:
    return (platform.built / name).read_bytes()


def tarball(platform: dist.Platform) -> Path:
    return dist.DIST / f"spike_auth-{dist.VERSION}-{platform.name}.tar.gz"


def wheel(platform: dist.Platform) -> Path:
    return dist.DIST / f"spike_auth-{dist.VERSION}-py3-none-{platform.wheel}.whl"


def packages(platform: dist.Platform) -> list[Path]:
    architecture, _ = platform.debian
    return [dist.DIST / f"{name}_{dist.VERSION}_{architecture}.deb" for name in dist.DEBIAN]


def unpack(platform: dist.Platform, folder: Path) -> Path:
    with tarfile.open(tarball(platform)) as archive:
        archive.extractall(folder, filter="tar")
    return folder / f"spike_auth-{dist.VERSION}-{platform.name}"


def pkg_config(lib: Path, *flags: str) -> list[str]:
    env = clean_env(PKG_CONFIG_LIBDIR=str(lib / "pkgconfig"))
    return run("pkg-config", "--cflags", "--libs", *flags, "spike_auth", env=env).split()


class Dist(unittest.TestCase):
    def setUp(self):
        folder = scratch()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def own(self, platform: dist.Platform) -> Path:
        """A new folder for a platform."""
        folder = self.folder / platform.name
        folder.mkdir()
        return folder


class Files(Dist):
    def test_the_sums_cover_all(self):
        expected = {path for platform in PACKED for path in (tarball(platform), wheel(platform))}
        expected |= {path for platform in PACKED if platform.debian for path in packages(platform)}
        self.assertEqual({path for path in dist.DIST.iterdir()} - {dist.DIST / "SHA256SUMS"}, expected)
        told = dict(reversed(line.split()) for line in (dist.DIST / "SHA256SUMS").read_text().splitlines())
        self.assertEqual(told, {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in expected})

    def test_sizes(self):
        for path in dist.DIST.iterdir():
            with self.subTest(path.name):
                self.assertLessEqual(path.stat().st_size, LIMITS.get(path.suffix, 2000))

    def test_entries_are_sorted_and_belong_to_root(self):
        for platform in PACKED:
            with self.subTest(platform.name):
                with tarfile.open(tarball(platform)) as archive:
                    entries = archive.getmembers()
                self.assertEqual([entry.path for entry in entries], sorted(entry.path for entry in entries))
                owners = {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries}
                self.assertEqual(owners, {(0, 0, "root", "root")})
                self.assertEqual(len({entry.mtime for entry in entries}), 1)
                modes = {stat.S_IMODE(entry.mode) for entry in entries if not entry.issym()}
                self.assertEqual(modes, {0o755, 0o644})

    def test_licences_and_bills_of_materials(self):
        own = {path.name: path.read_bytes() for path in ROOT.glob("LICENSE-*")}
        made = [path for path in dist.NOTICES.iterdir() if not path.name.startswith("about.")]
        notices = {path.name: path.read_bytes() for path in made}
        self.assertEqual((len(own), len(notices)), (2, 4))
        for platform in PACKED:
            with self.subTest(platform.name):
                folder = self.own(platform)
                doc = unpack(platform, folder) / "share/doc/spike_auth"
                self.assertEqual({path.name: path.read_bytes() for path in doc.iterdir()}, own | notices)
                with zipfile.ZipFile(wheel(platform)) as archive:
                    info = f"spike_auth-{dist.VERSION}.dist-info"
                    for name in [*own, "THIRD_PARTY_LICENSES"]:
                        self.assertEqual(archive.read(f"{info}/licenses/{name}"), (own | notices)[name])
                    self.assertEqual(archive.read(f"{info}/sboms/spike_auth.cdx.json"), notices["spike_auth.cdx.json"])
                if platform.debian:
                    library, *_ = packages(platform)
                    run("dpkg-deb", "-x", library, folder)
                    doc = folder / "usr/share/doc/libspike-auth1"
                    self.assertEqual((doc / "spike_auth.cdx.json").read_bytes(), notices["spike_auth.cdx.json"])
                    for text in [*own.values(), notices["THIRD_PARTY_LICENSES"]]:
                        self.assertIn(text, (doc / "copyright").read_bytes())

    def test_no_file_names_a_folder_of_this_machine(self):
        cargo = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
        foreign = [str(path).encode() for path in (ROOT, Path.home(), cargo) if len(str(path)) > 1]
        for platform in PACKED:
            with self.subTest(platform.name):
                folder = self.own(platform)
                for path in unpack(platform, folder).rglob("*"):
                    content = path.read_bytes() if path.is_file() else b""
                    self.assertEqual([name for name in foreign if name + b"/" in content], [], path)


class Tarball(Dist):
    def test_a_program_in_a_clean_root(self):
        for platform in PACKED:
            with self.subTest(platform.name):
                folder = self.own(platform)
                machine = MACHINES[platform.name]
                if missing := machine.missing():
                    self.skipTest(f"{missing} is missing")
                top = unpack(platform, folder / "opt")
                root = CleanRoot(folder, machine, {"LD_LIBRARY_PATH": f"/opt/{top.name}/lib:/lib"})
                flags = pkg_config(top / "lib", *(["--static"] if "-static" in machine.compiler else []))
                program = folder / "token"
                run(*machine.compiler, ROOT / "examples" / "token.c", *flags, "-o", program)
                shutil.copy(top / "bin" / "spike-auth", folder)
                with root.sandbox(f"/opt/{top.name}/bin/spike-auth-sandbox") as env:
                    self.assertIn("a token of 143 characters", root.run(program, env))
                    self.assertIn("\nIt works.", root.run(folder / "spike-auth", env, "doctor", "alice"))

    @unittest.skipUnless(shutil.which("cmake"), "cmake is missing (apt-get install cmake)")
    def test_its_readme(self):
        """A C++ program with CMake, and the shell's lines as they are printed."""
        top = unpack(HERE, self.folder)
        readme = (top / "README.md").read_text()
        cmake, shell = re.findall(r"```(?:cmake|sh)\n(.*?)```", readme, re.S)[:2]
        (self.folder / "program.cpp").write_text((ROOT / "examples" / "token.cpp").read_text())
        (self.folder / "program.c").write_text((ROOT / "examples" / "token.c").read_text())
        (self.folder / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.16)\nproject(app CXX)\nset(CMAKE_CXX_STANDARD 17)\n"
            f"add_executable(program program.cpp)\n{cmake}"
        )
        run("cmake", "-S", self.folder, "-B", self.folder / "build", f"-DCMAKE_PREFIX_PATH={top}")
        run("cmake", "--build", self.folder / "build")
        run("sh", "-euc", shell, env=clean_env(SPIKE=str(top)), cwd=self.folder)
        with sandbox() as addresses:
            for program in ("build/program", "a.out"):
                env = clean_env(**settings(addresses, "https"))
                self.assertIn("a token of 143 characters", run(self.folder / program, env=env))


@unittest.skipUnless(shutil.which("dpkg"), "dpkg is missing")
class Debian(Dist):
    def test_what_a_package_holds(self):
        for platform in filter(lambda one: one.debian, PACKED):
            with self.subTest(platform.name):
                folder = self.own(platform)
                architecture, libdir = platform.debian
                for package in packages(platform):
                    run("dpkg-deb", "-x", package, folder)
                    field = run("dpkg-deb", "-f", package, "Architecture", "Version").split()
                    self.assertEqual(field, ["Architecture:", architecture, "Version:", dist.VERSION])
                lib = folder / "usr/lib" / libdir
                self.assertEqual((lib / "libspike_auth.so").read_bytes(), built(platform, "libspike_auth.so"))
                self.assertEqual((lib / "libspike_auth.a").read_bytes(), built(platform, "libspike_auth.a"))
                self.assertEqual((folder / "usr/bin/spike-auth").read_bytes(), built(platform, "spike-auth"))
                self.assertTrue((folder / "usr/share/man/man1/spike-auth.1").exists())

    @unittest.skipUnless(os.geteuid() == 0, "dpkg installs as root only")
    def test_an_install_into_a_clean_root(self):
        (self.folder / "var/lib/dpkg/info").mkdir(parents=True)
        (self.folder / "var/lib/dpkg/status").touch()
        # The root has no database that knows of the C library.
        run("dpkg", f"--root={self.folder}", "--force-depends", "--no-triggers", "--install", *packages(HERE))
        database = f"--admindir={self.folder}/var/lib/dpkg"
        self.assertIn("install ok", run("dpkg-query", database, "--status", "libspike-auth-dev"))
        program = self.folder / "token"
        lib = self.folder / "usr/lib/x86_64-linux-gnu"
        run(CXX, ROOT / "examples" / "token.cpp", *pkg_config(lib), "-o", program)
        root = CleanRoot(self.folder, MACHINES[HERE.name])
        shutil.copy(SANDBOX, self.folder / "sandbox")
        with root.sandbox("/sandbox") as env:
            self.assertIn("a token of 143 characters", root.run(program, env))


class Wheels(Dist):
    """tests/test_wheel.py uses the one for this machine."""

    def test_the_library_inside(self):
        for platform in PACKED:
            with self.subTest(platform.name):
                with zipfile.ZipFile(wheel(platform)) as archive:
                    self.assertEqual(archive.read("spike_auth/libspike_auth.so"), built(platform, "libspike_auth.so"))
                    told = archive.read(f"spike_auth-{dist.VERSION}.dist-info/WHEEL").decode()
                tags = re.findall(r"(?m)^Tag: (.*)$", told)
                self.assertEqual({f"py3-none-{tag}" for tag in platform.wheel.split(".")}, set(tags))


class SameBytes(Dist):
    def test_another_checkout_with_another_cargo_home(self):
        """Everything for this machine once more, at other paths and with crates that are unpacked anew."""
        checkout, home = self.folder / "elsewhere" / "checkout", self.folder / "cargo"
        names = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        for name in filter(None, names):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name, follow_symlinks=False)
        (checkout / ".venv").symlink_to(ROOT / ".venv")
        fetched = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "registry"
        (home / "registry").mkdir(parents=True)
        for part in ("cache", "index"):
            (home / "registry" / part).symlink_to(fetched / part)
        env = clean_env(CARGO_HOME=str(home), SOURCE_DATE_EPOCH=str(dist.epoch()))
        run("packaging/platform.sh", HERE.name, env=env, cwd=checkout, timeout=1500)
        run(ROOT / ".venv" / "bin" / "python", "packaging/dist.py", HERE.name, env=env, cwd=checkout)
        again = {path.name: path for path in (checkout / "target" / "dist").iterdir() if path.name != "SHA256SUMS"}
        self.assertEqual(set(again), {path.name for path in (tarball(HERE), wheel(HERE), *packages(HERE))})
        for name, path in again.items():
            with self.subTest(name):
                self.assertEqual(path.read_bytes(), (dist.DIST / name).read_bytes())


if __name__ == "__main__":
    unittest.main()
