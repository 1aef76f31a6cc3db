"""Installs into a temporary prefix, moves it, and links as users do: with pkg-config, with CMake, and the archive."""

import re
import shutil
import subprocess
import unittest
from pathlib import Path

from support.project import CC, CXX, ROOT, clean_env, run, sandbox, scratch, settings

EXAMPLES = ROOT / "examples"
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
LANGUAGES = [(CC, "token.c"), (CXX, "token.cpp")]

# A user's project. A library of its own also finds the package, as often happens.
PROJECT = f"""
cmake_minimum_required(VERSION 3.16)
project(app C CXX)
set(CMAKE_CXX_STANDARD 17)
%s
foreach(kind spike_auth static)
  add_executable(c_${{kind}} {EXAMPLES}/token.c)
  add_executable(cpp_${{kind}} {EXAMPLES}/token.cpp)
  target_link_libraries(c_${{kind}} spike_auth::${{kind}})
  target_link_libraries(cpp_${{kind}} spike_auth::${{kind}})
endforeach()
"""


def make(target: str, **variables: object) -> str:
    return run("make", "-C", ROOT, target, *(f"{name}={value}" for name, value in variables.items()), timeout=900)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def gets_a_token(test: unittest.TestCase, program: Path, **extra: str) -> None:
    with sandbox() as addresses:
        env = clean_env(**settings(addresses, "https"), **extra)
        test.assertIn("a token of 143 characters", run(program, env=env))


class Prefix(unittest.TestCase):
    """A prefix that was moved after the install, as that of a tarball or of a staged package."""

    folder: Path
    prefix: Path

    @classmethod
    def setUpClass(cls):
        if not hasattr(Prefix, "prefix"):  # once for all classes
            folder = scratch()
            unittest.addModuleCleanup(folder.cleanup)
            Prefix.folder = Path(folder.name)
            make("install", PREFIX=Prefix.folder / "usr")
            Prefix.prefix = (Prefix.folder / "usr").rename(Prefix.folder / "moved")


class Install(Prefix):
    def test_what_is_installed(self):
        self.assertEqual(
            files_below(self.prefix),
            {
                "bin/spike-auth",
                "include/spike_auth.h",
                "include/spike_auth.hpp",
                "include/spike_auth_sandbox.h",
                "include/spike_auth_sandbox.hpp",
                "lib/cmake/spike_auth/spike_auth-config-version.cmake",
                "lib/cmake/spike_auth/spike_auth-config.cmake",
                "lib/libspike_auth.a",
                "lib/libspike_auth.so",
                "lib/libspike_auth.so.1",
                f"lib/libspike_auth.so.{VERSION}",
                "lib/pkgconfig/spike_auth.pc",
                "share/man/man1/spike-auth.1",
            },
        )
        link = self.prefix / "lib" / "libspike_auth.so"
        self.assertEqual(str(link.readlink()), "libspike_auth.so.1")
        self.assertEqual(str((self.prefix / "lib" / "libspike_auth.so.1").readlink()), f"libspike_auth.so.{VERSION}")

    def test_the_program_finds_the_library_beside_it(self):
        """In the moved prefix, without a path in the environment."""
        said = run(self.prefix / "bin" / "spike-auth", "--version")
        self.assertTrue(said.endswith(f", {(self.prefix / 'lib' / f'libspike_auth.so.{VERSION}').resolve()}\n"), said)

    def test_destdir_and_uninstall(self):
        with scratch() as stage:
            make("install", PREFIX="/opt/x", DESTDIR=stage)
            make("place-sandbox", PREFIX="/opt/x", DESTDIR=stage, RELEASE="target/debug")  # a release takes minutes to build
            self.assertTrue((Path(stage) / "opt/x/lib/pkgconfig/spike_auth.pc").exists())
            self.assertIn("--hmac-key", run(Path(stage) / "opt/x/bin/spike-auth-sandbox", "--help"))
            make("uninstall", PREFIX="/opt/x", DESTDIR=stage)
            self.assertEqual(files_below(Path(stage)), set())


@unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is missing (apt-get install pkg-config)")
class PkgConfig(Prefix):
    def pkg_config(self, *flags: str, lib: Path | None = None) -> list[str]:
        env = clean_env(PKG_CONFIG_PATH=str((lib or self.prefix / "lib") / "pkgconfig"))
        return run("pkg-config", *flags, "spike_auth", env=env).split()

    def build(self, compiler: str, *arguments: object) -> Path:
        program = self.folder / self.id()
        run(compiler, *arguments, "-o", program)
        return program

    def test_the_shared_library(self):
        for compiler, source in LANGUAGES:
            program = self.build(compiler, EXAMPLES / source, *self.pkg_config("--cflags", "--libs"))
            self.assertIn("libspike_auth.so.1", run("readelf", "-dW", program))
            gets_a_token(self, program, LD_LIBRARY_PATH=str(self.prefix / "lib"))

    def test_the_archive(self):
        """Both forms of docs/install.md."""
        flags = self.pkg_config("--static", "--cflags", "--libs")
        for compiler, source in LANGUAGES:
            forms = {
                "beside shared libraries": ["-l:libspike_auth.a", "-Wl,--as-needed", *flags],
                "in a static program": ["-static", *flags],
            }
            for name, form in forms.items():
                with self.subTest(name, source=source):
                    program = self.build(compiler, EXAMPLES / source, *form)
                    needed = run("readelf", "-dW", program)
                    self.assertNotIn("libspike_auth", needed)
                    self.assertEqual("NEEDED" in needed, "-static" not in form)
                    gets_a_token(self, program)

    def test_folders_of_a_packager(self):
        """Each finds the moved headers and library; what is outside of the prefix stays where it is."""
        for libdir, includedir in [
            ("/usr/lib/x86_64-linux-gnu", "/usr/include"),
            ("/usr/lib64", "/usr/include/spike"),
            ("/opt/lib", "/usr/include/spike"),
            ("/usr/lib", "/opt/include"),
        ]:
            with self.subTest(libdir=libdir, includedir=includedir), scratch() as stage:
                make("place", PREFIX="/usr", LIBDIR=libdir, INCLUDEDIR=includedir, DESTDIR=stage)
                lib = Path(stage + libdir)
                inside = libdir.startswith("/usr") and includedir.startswith("/usr")
                include = Path((stage if inside else "") + includedir)
                cflags, = self.pkg_config("--cflags", lib=lib)
                self.assertEqual(Path(cflags.removeprefix("-I")).resolve(), include)
                libs, _ = self.pkg_config("--libs", lib=lib)
                self.assertEqual(Path(libs.removeprefix("-L")).resolve(), lib)


@unittest.skipUnless(shutil.which("cmake"), "cmake is missing (apt-get install cmake)")
class CMake(Prefix):
    def configure(self, finds: str, *options: str, project: str = PROJECT) -> tuple[Path, subprocess.CompletedProcess]:
        source = self.folder / self.id()
        source.mkdir(exist_ok=True)
        (source / "CMakeLists.txt").write_text(project % finds)
        command = ["cmake", "-S", source, "-B", source / "build", *options]
        done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=120, check=False)
        return source / "build", done

    def builds(self, finds: str, *options: str) -> None:
        build, done = self.configure(finds, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        run("cmake", "--build", build, timeout=900)
        for language in ("c", "cpp"):
            for kind in ("spike_auth", "static"):
                with self.subTest(language, kind=kind):
                    program = build / f"{language}_{kind}"
                    needed = "libspike_auth.so.1" in run("readelf", "-dW", program)
                    self.assertEqual(needed, kind == "spike_auth")
                    gets_a_token(self, program)

    def test_a_moved_prefix(self):
        twice = "find_package(spike_auth 0.1 CONFIG REQUIRED)\n" * 2
        self.builds(twice, f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_a_checkout(self):
        """In a folder of the project, so that the targets must be visible above the folder that makes them."""
        for generator in ["Unix Makefiles", *(["Ninja"] if shutil.which("ninja") else [])]:
            with self.subTest(generator):
                shutil.rmtree(self.folder / self.id(), ignore_errors=True)
                fetch = f"include(FetchContent)\nFetchContent_Declare(spike_auth SOURCE_DIR {ROOT})\n"
                self.builds(fetch + "FetchContent_MakeAvailable(spike_auth)", "-G", generator)

    def test_a_checkout_names_what_it_lacks(self):
        for option, said in [
            ("-DSPIKE_AUTH_CARGO=/nowhere/cargo", "This is missing: cargo: builds the library."),
            ("-DCMAKE_SYSTEM_NAME=Windows", "builds from a checkout only on Linux and for the machine itself"),
        ]:
            with self.subTest(option):
                shutil.rmtree(self.folder / self.id(), ignore_errors=True)
                _, done = self.configure(f"add_subdirectory({ROOT} spike_auth)", option,
                                         project="cmake_minimum_required(VERSION 3.16)\nproject(app NONE)\n%s")
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, " ".join(done.stderr.split()))

    def test_versions_and_components(self):
        major, minor, patch = map(int, VERSION.split("."))
        for wanted, found in [
            ("", True),
            (f"{major}.{minor}", True),
            (f"{VERSION} EXACT", True),
            (f"{major}.{minor}.{patch + 1}", False),
            (f"{major + 1}", False),
            (f"{major}...{major + 1}", True),
            (f"{major}...<{VERSION}", False),
            (f"{major}.{minor}...{major}.{minor}", patch == 0),
            ("COMPONENTS core", False),
            ("OPTIONAL_COMPONENTS core", True),
        ]:
            with self.subTest(wanted):
                _, done = self.configure(
                    f"find_package(spike_auth {wanted} CONFIG)\nmessage(\"found: ${{spike_auth_FOUND}}\")",
                    f"-DCMAKE_PREFIX_PATH={self.prefix}",
                    project="cmake_minimum_required(VERSION 3.19)\nproject(app NONE)\n%s",
                )
                self.assertIn(f"found: {int(found)}", done.stderr)
                if wanted == "COMPONENTS core":
                    self.assertIn('spike_auth has no component "core"', done.stderr)


if __name__ == "__main__":
    unittest.main()
