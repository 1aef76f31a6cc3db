"""The stand-ins for users' own tests: the header that starts the sandbox, and the examples of docs/testing.md.

The suites of the bindings test spike_auth.testing and spikeauthtest themselves.
"""

from __future__ import annotations

import os
import re
import shutil
import unittest
from itertools import product
from pathlib import Path

from python import environment, interpreters
from support.pages import DOCS, blocks
from support.project import CC, CXX, HEADER, RELEASE, ROOT, SANDBOX, SHARED, clean_env, run, scratch

PAGE = DOCS["testing"]
HERE = Path(__file__).resolve().parent
MODULE = "github.com/spike-auth/spike-auth/bindings/go"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror"]
CXX_WARNINGS = [*WARNINGS, "-Wold-style-cast", "-Wnon-virtual-dtor"]
LINK = [f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", f"-Wl,-rpath,{RELEASE}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def example(language: str) -> str:
    """The program of the page, which is short."""
    text = blocks(language, PAGE)[0]
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 15, f"the example in {language} has {len(lines)} lines"
    return text


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(scratch()))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


class Header(Case):
    def compile(self, compiler: str, standard: str, header: str, *flags: str) -> None:
        if not shutil.which(compiler):
            self.skipTest(f"{compiler} is missing (apt-get install {compiler.rstrip('+')})")
        source = self.write("twice.cpp" if "++" in compiler else "twice.c", f"#include <{header}>\n" * 2)
        run(compiler, f"-std={standard}", *flags, f"-I{HEADER.parent}", "-fsyntax-only", source)

    def test_it_compiles_twice_in_c(self):
        for compiler, standard in product(["gcc", "clang"], ["gnu11", "gnu17", "gnu2x", "c11 -D_POSIX_C_SOURCE=200809L"]):
            with self.subTest(f"{compiler} {standard}"):
                self.compile(compiler, *standard.split()[:1], "spike_auth_sandbox.h", "-Wc++-compat", *WARNINGS,
                             *standard.split()[1:])

    def test_it_compiles_twice_in_cpp(self):
        for compiler, standard in product(["g++", "clang++"], ["c++17", "c++20", "c++2b"]):
            with self.subTest(f"{compiler} {standard}"):
                self.compile(compiler, standard, "spike_auth_sandbox.hpp", *CXX_WARNINGS)
                self.compile(compiler, standard, "spike_auth_sandbox.h", "-fno-exceptions", *CXX_WARNINGS)

    def test_without_posix_it_says_what_to_do(self):
        with self.assertRaisesRegex(AssertionError, "needs POSIX.1-2008: compile with -std=gnu11 or -D_GNU_SOURCE"):
            self.compile("gcc", "c11", "spike_auth_sandbox.h")

    def test_it_starts_and_ends_a_sandbox(self):
        for flags in (["-O2", "-D_FORTIFY_SOURCE=2"], ["-O1", "-g", *SANITIZERS]):
            with self.subTest(flags):
                program = self.folder / "helper"
                run(CC, "-std=gnu11", *flags, *WARNINGS, HERE / "helper.c", f"-I{ROOT / 'tests' / 'c'}", *LINK, "-o", program)
                self.assertRegex(run(program, SANDBOX, env=clean_env(TMPDIR=str(self.folder))), r"\A\d+ passed, 0 failed\n\Z")
                self.assertEqual(list(self.folder.glob("spike-auth-sandbox-*")), [])


class Variables(unittest.TestCase):
    def test_all_remove_what_would_conflict_with_their_environment(self):
        """A second source of the key, and the stores, as the library names them."""
        library = (ROOT / "src" / "config" / "environment.rs").read_text()
        expected = set(re.findall(r'"(SPIKE_HMAC_KEY_FILE|SPIKE_STORE_URL(?:_FILE)?)"', library))
        self.assertEqual(len(expected), 3)
        for path, pattern in [
            ("bindings/python/src/spike_auth/testing/__init__.py", r"(?m)^CONFLICTING = \((.*)\)$"),
            ("bindings/go/spikeauthtest/server.go", r"(?m)^var conflicting = \[\]string\{(.*)\}$"),
            ("include/spike_auth_sandbox.h", r'(?s)\bunsetenv\(.*unsetenv\("\w+"\)'),
        ]:
            with self.subTest(path):
                found = re.search(pattern, (ROOT / path).read_text())[0]
                self.assertEqual(set(re.findall(r'"(SPIKE_\w+)"', found)), expected)


class Examples(Case):
    def test_flask(self):
        newest = [each for each in interpreters().values() if not each.missing][-1]
        shutil.copy(ROOT / "bindings" / "python" / "examples" / "flask_app.py", self.folder)
        self.write("test_flask_app.py", example("python"))
        source = ROOT / "bindings" / "python" / "src"
        env = clean_env(PYTHONPATH=f"{source}{os.pathsep}{self.folder}", SPIKE_AUTH_LIBRARY=str(SHARED),
                        PYTHONDONTWRITEBYTECODE="1")
        # The plug-in is named because the package is not installed here.
        said = run(environment(newest.series, newest.path), "-m", "pytest", "-q", "-p", "no:cacheprovider",
                   "-p", "pytest_spike_auth", cwd=self.folder, env=env)
        self.assertIn("1 passed", said)

    def test_go(self):
        shutil.copy(ROOT / "bindings" / "go" / "examples" / "server" / "main.go", self.folder)
        self.write("main_test.go", example("go"))
        env = clean_env(PKG_CONFIG_PATH=str(ROOT / "target" / "go"), GOFLAGS="-mod=mod", GOPROXY="off", GOWORK="off",
                        GOTOOLCHAIN="local")
        go = os.environ.get("GO", "go")
        run(go, "mod", "init", "example.com/server", cwd=self.folder, env=env)
        replaced = [f"-require={MODULE}@v0.0.0", f"-replace={MODULE}={ROOT / 'bindings' / 'go'}"]
        run(go, "mod", "edit", "-go=1.24", *replaced, cwd=self.folder, env=env)
        self.assertRegex(run(go, "test", "-v", ".", cwd=self.folder, env=env), r"(?m)^--- PASS: TestAFailure")
        self.assertEqual(run(Path(go).parent / "gofmt" if "/" in go else "gofmt", "-l", ".", cwd=self.folder, env=env), "")

    def test_cpp(self):
        """The command line as it is printed, with the packages of an installed prefix."""
        run("make", "-C", ROOT, "place", f"PREFIX={self.folder / 'usr'}")
        run(CXX, "-std=c++17", ROOT / "examples" / "token.cpp", *LINK, "-o", self.folder / "token")
        self.write("test.cpp", example("cpp"))
        (line,) = blocks("sh", PAGE)
        env = clean_env(PKG_CONFIG_PATH=str(self.folder / "usr" / "lib" / "pkgconfig"), SPIKE_AUTH_SANDBOX=str(SANDBOX))
        said = run("sh", "-euc", line, cwd=self.folder, env=env)
        self.assertIn("exchanged it for a token", said)
        run(CXX, "-std=c++17", *CXX_WARNINGS, "-fsyntax-only", f"-I{HEADER.parent}", self.folder / "test.cpp")


if __name__ == "__main__":
    unittest.main()
