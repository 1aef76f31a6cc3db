"""The library of `make portable`: what it needs of the system, and that it loads. Not a part of `make test`."""

import ctypes
import re
import unittest

from support.project import ROOT, run

PORTABLE = ROOT / "target" / "portable" / "libspike_auth.so"


class Portable(unittest.TestCase):
    def test_needs_at_most_glibc_2_17(self):
        found = re.findall(r"GLIBC_(\d+)\.(\d+)", run("readelf", "-VW", PORTABLE))
        self.assertLessEqual(max((int(major), int(minor)) for major, minor in found), (2, 17))

    def test_exports_the_same_functions_as_the_release_library(self):
        def exported(library):
            return {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}

        self.assertEqual(exported(PORTABLE), exported(ROOT / "target" / "release" / "libspike_auth.so"))

    def test_loads_here(self):
        self.assertEqual(ctypes.CDLL(str(PORTABLE)).spike_auth_abi_version(), 1)


if __name__ == "__main__":
    unittest.main()
