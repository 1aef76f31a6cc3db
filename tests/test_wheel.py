"""The Python package as users install it: a wheel with the library, in an empty environment."""

import platform
import re
import subprocess
import sys
import unittest
import zipfile
from pathlib import Path

from support.project import ROOT, clean_env, counters, run, sandbox, scratch, settings

BINDING = ROOT / "bindings" / "python"
# The results of `make dist` for this machine, which older systems load too.
RELEASED = (ROOT / "target" / "dist").glob(f"*-manylinux*_{platform.machine()}.whl")
AUDITWHEEL = ROOT / ".venv" / "bin" / "auditwheel"

PROGRAM = """
import spike_auth
info = spike_auth.library_info()
print(info.source, info.abi)
with spike_auth.Client.from_env() as client:
    assert client.token("alice") == client.token("alice")
    print(client.stats().requests)
"""


def virtual_environment(folder: Path) -> Path:
    """The interpreter of a new virtual environment."""
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = scratch()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.python = virtual_environment(cls.folder / "builder")
        cls.pip("wheel", "--no-deps", "--wheel-dir", cls.folder / "built", BINDING)
        cls.wheels = [*(cls.folder / "built").glob("*.whl"), *RELEASED]

    @classmethod
    def pip(cls, *arguments: object) -> None:
        run(cls.python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, timeout=900)

    def test_none_is_for_any_platform(self):
        self.assertTrue(self.wheels)
        for wheel in self.wheels:
            with self.subTest(wheel.name):
                self.assertRegex(wheel.name, r"\Aspike_auth-[0-9.]+-py3-none-(?!any)\w[\w.]*\.whl\Z")

    def test_it_holds_only_the_package_and_the_library(self):
        for wheel in self.wheels:
            with self.subTest(wheel.name), zipfile.ZipFile(wheel) as archive:
                names = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}
                licences = {name.rpartition("/")[2] for name in archive.namelist() if ".dist-info/licenses/" in name}
                self.assertEqual(licences - {""}, {"LICENSE-MIT", "LICENSE-APACHE", "THIRD_PARTY_LICENSES"})
                bills = [name for name in archive.namelist() if name.endswith(".dist-info/sboms/spike_auth.cdx.json")]
                self.assertEqual(len(bills), 1)
                source = BINDING / "src"
                expected = {str(path.relative_to(source)) for path in source.rglob("*.py*") if path.suffix != ".pyc"}
                self.assertEqual(names, expected | {"spike_auth/py.typed", "spike_auth/libspike_auth.so"})

    @unittest.skipUnless(AUDITWHEEL.exists(), "auditwheel is missing (make python)")
    def test_auditwheel_accepts_it(self):
        for wheel in self.wheels:
            with self.subTest(wheel.name):
                said = " ".join(run(AUDITWHEEL, "show", wheel).split())
                self.assertRegex(said, r'consistent with the following platform tag: "manylinux_2_\d+_x86_64"')

    def test_it_works_in_an_empty_environment(self):
        for number, wheel in enumerate(self.wheels):
            with self.subTest(wheel.name), sandbox() as addresses:
                python = virtual_environment(self.folder / f"user-{number}")
                self.pip("--python", python, "install", "--no-index", "--no-deps", wheel)
                env = clean_env(**settings(addresses, "https"))
                said = run(python, "-I", "-c", PROGRAM, env=env, cwd=self.folder)
                self.assertEqual(said.split(), ["package", "1", "1"])
                token = run(python, "-I", "-m", "spike_auth", "token", "bob", env=env, cwd=self.folder)
                self.assertRegex(token, r"\A[\w.-]+\n\Z")
                self.assertEqual(counters(addresses)["requests"], 2)

    def test_what_cannot_be_built_is_refused(self):
        self.pip("install", "hatchling")
        for kind, extra, said in [
            ("sdist", {}, "Build a wheel from a checkout"),
            ("wheel", {"SPIKE_AUTH_WHEEL_PLATFORM": "musllinux_1_2_aarch64"}, "set SPIKE_AUTH_WHEEL_LIBRARY"),
            ("wheel", {"SPIKE_AUTH_WHEEL_PLATFORM": "a b", "SPIKE_AUTH_WHEEL_LIBRARY": __file__}, "not a platform"),
        ]:
            with self.subTest(said):
                done = subprocess.run(
                    [self.python, "-m", "hatchling", "build", "-t", kind, "-d", self.folder / "refused"],
                    cwd=BINDING, env=clean_env(**extra), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    timeout=300, check=False,
                )
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, re.sub(r"\s+", " ", done.stdout))


if __name__ == "__main__":
    unittest.main()
