"""packaging/notices names every crate that is compiled into the library and the sandbox, with its licence."""

import json
import os
import re
import subprocess
import unittest
from pathlib import Path

from support.project import ROOT, clean_env

NOTICES = ROOT / "packaging" / "notices"
CARGO = os.environ.get("CARGO", "cargo")
TARGETS = re.findall(r'"([a-z0-9_]+-unknown-linux-[a-z]+)"', (NOTICES / "about.toml").read_text())
# (package, its licences, its bill of materials)
PACKED = [
    ("spike_auth", "THIRD_PARTY_LICENSES", "spike_auth.cdx.json"),
    ("spike-auth-sandbox", "THIRD_PARTY_LICENSES.sandbox", "spike-auth-sandbox.cdx.json"),
]
# What a crate's file of a licence is called.
LICENCE = re.compile(r"(?i)(licen[cs]e|copying|unlicense)")


def cargo(*arguments: str) -> str:
    command = [CARGO, *arguments, "--locked"]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


def crates(name: str) -> set[str]:
    """What is compiled into a package and for it, on any platform, except for its build script and its tests."""
    trees = [cargo("tree", "-p", name, "--edges", "normal", "--target", target, "--prefix", "none", "--format", "{p}")
             for target in TARGETS]
    found = {" ".join(line.split()[:2]).replace(" v", " ") for tree in trees for line in tree.splitlines() if line}
    return {crate for crate in found if not crate.startswith(f"{name} ")}


def words(text: str) -> str:
    return " ".join(text.split())


class Notices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.crates = {name: crates(name) for name, _, _ in PACKED}
        packages = json.loads(cargo("metadata", "--format-version", "1"))["packages"]
        cls.folders = {f"{package['name']} {package['version']}": Path(package["manifest_path"]).parent
                       for package in packages}

    def test_all_platforms_are_asked(self):
        self.assertEqual(len(TARGETS), 4)

    def test_every_crate_is_named_with_its_licence(self):
        for name, licences, _ in PACKED:
            named = set(re.findall(r"(?m)^- (\S+ \d\S*)$", (NOTICES / licences).read_text()))
            with self.subTest(name):
                self.assertEqual(named, self.crates[name], "stale: run `make notices`")

    def test_the_copyright_of_every_crate_is_in_it(self):
        """One of the crate's own files of its licences is there as it is, where the crate has one."""
        for name, licences, _ in PACKED:
            text = words((NOTICES / licences).read_text())
            for crate in self.crates[name]:
                files = [path for path in self.folders[crate].iterdir() if LICENCE.match(path.name) and path.is_file()]
                with self.subTest(name, crate=crate):
                    self.assertTrue(not files or any(words(path.read_text()) in text for path in files), files)

    def test_the_bill_of_materials(self):
        for name, _, bill in PACKED:
            with self.subTest(name):
                told = json.loads((NOTICES / bill).read_text())
                self.assertEqual(told["bomFormat"], "CycloneDX")
                component = told["metadata"]["component"]
                self.assertIn(f"{name} {component['version']}", self.folders, "stale: run `make notices`")
                listed = {f"{part['name']} {part['version']}" for part in told["components"]}
                self.assertEqual(listed, self.crates[name], "stale: run `make notices`")
                references = {part["bom-ref"] for part in [component, *told["components"]]}
                for entry in told["dependencies"]:
                    self.assertLessEqual({entry["ref"], *entry.get("dependsOn", [])}, references)

    def test_nothing_of_the_builder_is_in_it(self):
        for path in NOTICES.iterdir():
            with self.subTest(path.name):
                text = path.read_text()
                self.assertNotRegex(text, r"file://|/home/|/root/|/tmp/|\btimestamp\b|serialNumber")
                self.assertNotIn(str(ROOT), text)


if __name__ == "__main__":
    unittest.main()
