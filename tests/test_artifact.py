"""The built libraries: exports, soname, hardening, size, and what they need of the system."""

import json
import os
import re
import unittest
from pathlib import Path

from support.client import LIBRARY
from support.project import ARCHIVE, HEADER, ROOT, SHARED, run

# The newest glibc that a build may need. See the README.
GLIBC_MAX = (2, 34)


def header_functions() -> set[str]:
    return set(re.findall(r"\b(spike_auth_\w+)\(", _code(HEADER.read_text())))


def _code(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def symbols(*flags: str) -> list[str]:
    return [line.split()[-1] for line in run("nm", *flags).splitlines() if line.strip() and not line.endswith(":")]


class SharedLibrary(unittest.TestCase):
    def dynamic(self) -> str:
        return run("readelf", "-dW", SHARED)

    def test_exports_the_headers_functions_and_nothing_else(self):
        self.assertEqual(set(symbols("-D", "--defined-only", SHARED)), header_functions())

    def test_soname_is_the_abi_number(self):
        abi = re.search(r"#define SPIKE_AUTH_ABI_VERSION (\d+)", HEADER.read_text()).group(1)
        self.assertIn(f"[libspike_auth.so.{abi}]", self.dynamic())
        self.assertEqual(LIBRARY.spike_auth_abi_version(), int(abi))

    def test_is_hardened_and_stays_loaded(self):
        dynamic = self.dynamic()
        self.assertIn("NODELETE", dynamic)
        self.assertRegex(dynamic, r"BIND_NOW|FLAGS_1.*NOW")
        self.assertNotIn("TEXTREL", dynamic)
        segments = run("readelf", "-lW", SHARED)
        self.assertIn("GNU_RELRO", segments)
        self.assertRegex(segments, r"GNU_STACK .*RW ")

    def test_needs_the_c_library_and_no_tls_library(self):
        needed = set(re.findall(r"NEEDED.*\[(.*?)\]", self.dynamic()))
        self.assertLessEqual(needed, {"libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2"})

    def test_loads_on_glibc_2_34(self):
        versions = re.findall(r"GLIBC_(\d+)\.(\d+)", run("readelf", "-VW", SHARED))
        newest = max((int(major), int(minor)) for major, minor in versions)
        self.assertLessEqual(newest, GLIBC_MAX)

    def test_is_stripped(self):
        self.assertNotIn(".symtab", run("readelf", "-SW", SHARED))

    def test_is_smaller_than_libcurl_with_its_tls(self):
        folders = [Path("/usr/lib"), Path("/lib"), *Path("/usr/lib").glob("*-linux-gnu")]
        sizes = [
            max((path.stat().st_size for folder in folders for path in folder.glob(f"{name}.so.*")), default=None)
            for name in ("libcurl", "libssl", "libcrypto")
        ]
        if None in sizes:
            self.skipTest("libcurl with OpenSSL is missing (apt-get install libcurl4)")
        self.assertLess(SHARED.stat().st_size, sum(sizes))


class Archive(unittest.TestCase):
    def test_shows_the_headers_functions_and_nothing_else(self):
        self.assertEqual(set(symbols("-g", "--defined-only", ARCHIVE)) - {"spike_auth.o:"}, header_functions())


class Dependencies(unittest.TestCase):
    def tree(self) -> set[str]:
        out = run(
            os.environ.get("CARGO", "cargo"), "tree", "--locked", "-p", "spike_auth", "-e", "normal,build",
            "--prefix", "none", "--format", "{p}", cwd=ROOT,
        )
        return {line.split()[0] for line in out.splitlines() if line.strip()}

    def test_one_crypto_provider_and_no_system_tls(self):
        tree = self.tree()
        self.assertIn("ring", tree)
        self.assertFalse(tree & {"aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"})


class Texts(unittest.TestCase):
    """Texts of the header that the library has too."""

    def test_status_names_numbers_and_meanings(self):
        found = re.findall(
            r"/\*\*\s*\n\s*\* (.*?)\s*\n\s*\*/\s*\n\s*(SPIKE_AUTH_STATUS_\w+) = (\d+),", HEADER.read_text()
        )
        self.assertGreater(len(found), 30)
        for text, name, number in found:
            self.assertEqual(LIBRARY.spike_auth_status_name(int(number)).decode(), name)
            self.assertEqual(LIBRARY.spike_auth_status_text(int(number)).decode(), text)
        unknown = {*range(-300, 301), 2**31 - 1, -(2**31)} - {int(number) for _, _, number in found}
        for number in unknown:
            self.assertEqual(LIBRARY.spike_auth_status_name(number), b"unknown")
            self.assertEqual(LIBRARY.spike_auth_status_text(number), LIBRARY.spike_auth_status_text(-1))

    def test_the_contracts_numbers(self):
        contract = json.loads((ROOT / "tests" / "vectors" / "status_numbers.json").read_text())
        code = _code(HEADER.read_text())
        found = {name: int(number) for name, number in re.findall(r"SPIKE_AUTH_STATUS_(\w+) = (\d+)", code)}
        self.assertEqual(found, contract)


if __name__ == "__main__":
    unittest.main()
