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


def metadata(target: str) -> dict:
    command = [CARGO, "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(), capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def dependencies(described: dict, name: str) -> dict[str, dict]:
    """All packages that are compiled into the package and for it, except for its build script and its tests."""
    packages = {package["id"]: package for package in described["packages"]}
    nodes = {node["id"]: node for node in described["resolve"]["nodes"]}
    root, = (key for key, package in packages.items() if package["name"] == name)
    found, new = set(), {root}
    while new:
        found |= new
        new = {
            dependency["pkg"]
            for key in new
            for dependency in nodes[key]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        } - found
    return {f"{packages[key]['name']} {packages[key]['version']}": packages[key] for key in found - {root}}


def words(text: str) -> str:
    return " ".join(text.split())


class Notices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.described = {target: metadata(target) for target in TARGETS}

    def crates(self, name: str) -> dict[str, dict]:
        """Those of all platforms."""
        found = [dependencies(described, name) for described in self.described.values()]
        return {key: crate for crates in found for key, crate in crates.items()}

    def test_all_platforms_are_asked(self):
        self.assertEqual(len(TARGETS), 4)

    def test_every_crate_is_named_with_its_licence(self):
        for name, licences, _ in PACKED:
            text = (NOTICES / licences).read_text()
            named = set(re.findall(r"(?m)^- (\S+ \S+)$", text))
            with self.subTest(name):
                self.assertEqual(named, set(self.crates(name)), "stale: run `make notices`")

    def test_the_copyright_of_every_crate_is_in_it(self):
        """One of the crate's own files of its licences is there as it is, where the crate has one."""
        for name, licences, _ in PACKED:
            text = words((NOTICES / licences).read_text())
            for key, crate in self.crates(name).items():
                files = [path for path in Path(crate["manifest_path"]).parent.iterdir()
                         if LICENCE.match(path.name) and path.is_file()]
                with self.subTest(name, crate=key):
                    if files:
                        self.assertTrue(any(words(path.read_text()) in text for path in files), files)

    def test_the_bill_of_materials(self):
        for name, _, bill in PACKED:
            with self.subTest(name):
                told = json.loads((NOTICES / bill).read_text())
                self.assertEqual(told["bomFormat"], "CycloneDX")
                listed = {f"{part['name']} {part['version']}" for part in told["components"]}
                self.assertEqual(listed, set(self.crates(name)), "stale: run `make notices`")
                own, = (package for package in self.described[TARGETS[0]]["packages"] if package["name"] == name)
                component = told["metadata"]["component"]
                self.assertEqual(component["version"], own["version"], "stale: run `make notices`")
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
