"""Installs into a temporary prefix and links as users do: with pkg-config, and the archive."""

import re
import shutil
import unittest
from pathlib import Path

from support.project import CC, CXX, ROOT, clean_env, run, sandbox, scratch, settings

EXAMPLES = ROOT / "examples"


def make(target: str, **variables: object) -> str:
    return run("make", "-C", ROOT, target, *(f"{name}={value}" for name, value in variables.items()), timeout=900)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = scratch()
        cls.prefix = Path(cls.folder.name) / "usr"
        make("install", PREFIX=cls.prefix)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def pkg_config(self, *flags: str) -> list[str]:
        env = clean_env(PKG_CONFIG_PATH=str(self.prefix / "lib" / "pkgconfig"))
        return run("pkg-config", *flags, "spike_auth", env=env).split()

    def gets_a_token(self, program: Path) -> None:
        with sandbox() as addresses:
            env = clean_env(LD_LIBRARY_PATH=str(self.prefix / "lib"), **settings(addresses, "https"))
            self.assertIn("a token of 143 characters", run(program, env=env))

    def test_what_is_installed(self):
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
        self.assertEqual(
            files_below(self.prefix),
            {
                "include/spike_auth.h",
                "include/spike_auth.hpp",
                "lib/libspike_auth.a",
                "lib/libspike_auth.so",
                "lib/libspike_auth.so.1",
                f"lib/libspike_auth.so.{version}",
                "lib/pkgconfig/spike_auth.pc",
            },
        )
        link = self.prefix / "lib" / "libspike_auth.so"
        self.assertEqual(str(link.readlink()), "libspike_auth.so.1")
        self.assertEqual(str((self.prefix / "lib" / "libspike_auth.so.1").readlink()), f"libspike_auth.so.{version}")

    @unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is missing (apt-get install pkg-config)")
    def test_linking_with_pkg_config(self):
        for compiler, source in [(CC, "token.c"), (CXX, "token.cpp")]:
            program = Path(self.folder.name) / f"dynamic-{source}"
            run(compiler, EXAMPLES / source, *self.pkg_config("--cflags", "--libs"), "-o", program)
            self.assertIn("libspike_auth.so.1", run("readelf", "-dW", program))
            self.gets_a_token(program)

    @unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is missing (apt-get install pkg-config)")
    def test_linking_the_archive(self):
        flags = self.pkg_config("--cflags", "--libs", "--static")
        # The linker prefers a shared library of the same name, so the archive is named.
        flags = [f"{self.prefix}/lib/libspike_auth.a" if flag == "-lspike_auth" else flag for flag in flags]
        for compiler, source in [(CC, "token.c"), (CXX, "token.cpp")]:
            program = Path(self.folder.name) / f"static-{source}"
            run(compiler, EXAMPLES / source, *flags, "-o", program)
            self.assertNotIn("libspike_auth", run("readelf", "-dW", program))
            self.gets_a_token(program)

    def test_destdir_and_uninstall(self):
        with scratch() as stage:
            make("install", PREFIX="/opt/x", DESTDIR=stage)
            self.assertIn("prefix=/opt/x", (Path(stage) / "opt/x/lib/pkgconfig/spike_auth.pc").read_text())
            make("uninstall", PREFIX="/opt/x", DESTDIR=stage)
            self.assertEqual(files_below(Path(stage)), set())


if __name__ == "__main__":
    unittest.main()
