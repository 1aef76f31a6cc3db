"""What is built for each platform: what it needs of the system, what it shows, and that no path is in it."""

import os
import re
import unittest
from functools import wraps
from pathlib import Path

from support.project import HEADER, ROOT, run

from platforms.platform import PLATFORMS

FUNCTIONS = set(re.findall(r"\b(spike_auth_\w+)\(", re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)))
NEEDED = {
    "gnu": {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2",
            "ld-linux-aarch64.so.1"},
    "musl": {"libc.so"},
}
MEGABYTE = 1_000_000


def needed(file: Path) -> set[str]:
    return set(re.findall(r"NEEDED.*\[(.*?)\]", run("readelf", "-dW", file)))


def symbols(*flags: object) -> set[str]:
    return {line.split()[-1] for line in run("nm", *flags).splitlines() if len(line.split()) > 1}


def on_each(test):
    """Runs a test for each platform. One that was not built is skipped by name."""

    @wraps(test)
    def run_on_each(self):
        for platform in PLATFORMS:
            with self.subTest(platform.name):
                self.assertTrue(platform.folder.is_dir(), "build it with: make platforms")
                test(self, platform)

    return run_on_each


class Built(unittest.TestCase):
    @on_each
    def test_the_library_needs_the_c_library_alone(self, platform):
        found = needed(platform.shared)
        self.assertTrue(found)
        self.assertLessEqual(found, NEEDED[platform.libc])

    @on_each
    def test_glibc_2_17_is_enough(self, platform):
        if platform.libc != "gnu":
            return
        for file in (platform.shared, platform.program, platform.sandbox):
            versions = re.findall(r"GLIBC_(\d+)\.(\d+)", run("readelf", "-VW", file))
            self.assertLessEqual(max((int(major), int(minor)) for major, minor in versions), (2, 17), file)

    @on_each
    def test_it_is_for_the_processor_that_it_names(self, platform):
        machines = {"amd64": "Advanced Micro Devices X86-64", "arm64": "AArch64"}
        for file in (platform.shared, platform.archive, platform.program, platform.sandbox):
            found = set(re.findall(r"Machine: +(.*)", run("readelf", "-h", file)))
            self.assertEqual(found, {machines[platform.arch]}, file)

    @on_each
    def test_soname_and_hardening(self, platform):
        abi = re.search(r"#define SPIKE_AUTH_ABI_VERSION (\d+)", HEADER.read_text()).group(1)
        dynamic = run("readelf", "-dW", platform.shared)
        self.assertIn(f"[libspike_auth.so.{abi}]", dynamic)
        self.assertIn("NODELETE", dynamic)
        self.assertIn("BIND_NOW", dynamic)
        self.assertNotIn("TEXTREL", dynamic)
        self.assertIn("GNU_RELRO", run("readelf", "-lW", platform.shared))

    @on_each
    def test_both_libraries_show_the_headers_functions_and_nothing_else(self, platform):
        self.assertEqual(symbols("-D", "--defined-only", platform.shared), FUNCTIONS)
        self.assertEqual(symbols("-g", "--defined-only", platform.archive), FUNCTIONS)

    @on_each
    def test_the_archive_for_musl_contains_its_unwinder(self, platform):
        undefined = {name for name in symbols("-u", platform.archive) if name.startswith("_Unwind_")}
        native = (platform.folder / "native-static-libs").read_text().split()
        self.assertEqual(bool(undefined), platform.libc == "gnu")
        self.assertEqual("-lgcc_s" in native, platform.libc == "gnu")
        self.assertIn("-lc", native)

    @on_each
    def test_the_programs_for_musl_are_static(self, platform):
        for file in (platform.program, platform.sandbox):
            found = needed(file)
            self.assertEqual(not found, platform.libc == "musl", found)

    @on_each
    def test_the_program_for_glibc_takes_the_library_beside_it(self, platform):
        dynamic = run("readelf", "-dW", platform.program)
        self.assertEqual("libspike_auth.so.1" in needed(platform.program), platform.libc == "gnu")
        self.assertEqual("[$ORIGIN/../lib]" in dynamic, platform.libc == "gnu")

    @on_each
    def test_no_path_of_the_builder(self, platform):
        home = os.environ.get("CARGO_HOME", str(Path.home() / ".cargo"))
        sysroot = run(os.environ.get("RUSTC", "rustc"), "--print", "sysroot").strip()
        paths = [str(ROOT).encode(), home.encode(), sysroot.encode(), b"/.cargo/", b"/.rustup/", b"/registry/src/"]
        for file in (platform.shared, platform.archive, platform.program, platform.sandbox):
            data = file.read_bytes()
            for path in paths:
                at = data.find(path)
                self.assertEqual(at, -1, f"{file}: {data[max(at - 20, 0) : at + 120]!r}")
            # This proves that paths are there to be found. With glibc the program has no Rust in it.
            if file != platform.program or platform.libc == "musl":
                self.assertIn(b"/crates/ring-", data, file)

    @on_each
    def test_sizes(self, platform):
        for file, most in ((platform.shared, 3), (platform.archive, 8), (platform.program, 4), (platform.sandbox, 4)):
            self.assertLess(file.stat().st_size, most * MEGABYTE, file)


if __name__ == "__main__":
    unittest.main()
