"""Puts the shared library into the wheel, and so makes it a wheel for one platform."""

import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Names a library to use instead of the one that cargo builds, such as one for older systems.
LIBRARY_VARIABLE = "SPIKE_AUTH_WHEEL_LIBRARY"
# The platform of that library, as in a wheel's name, such as musllinux_1_2_aarch64. The default is this machine's.
PLATFORM_VARIABLE = "SPIKE_AUTH_WHEEL_PLATFORM"
IN_PACKAGE = "spike_auth/libspike_auth.so"


class LibraryHook(BuildHookInterface[Any]):
    """Builds `py3-none-<platform>`: any version of Python 3, one platform.

    Failures are SystemExit, because pip shows the traceback of any other exception.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Set the tag of the wheel and add the library to it."""
        if self.target_name != "wheel":
            raise SystemExit("Build a wheel from a checkout: a source distribution would lack the library's source.")
        if version == "editable":
            return  # a copy beside the source would go stale; set SPIKE_AUTH_LIBRARY instead
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{self.platform()}"
        build_data["force_include"][str(self.library())] = IN_PACKAGE

    def platform(self) -> str:
        """Return the last part of the wheel's name; several platforms are joined by dots."""
        platform = os.environ.get(PLATFORM_VARIABLE)
        if platform and not os.environ.get(LIBRARY_VARIABLE):
            raise SystemExit(f"{PLATFORM_VARIABLE} is set: set {LIBRARY_VARIABLE} to that platform's library too.")
        platform = platform or re.sub(r"[-.]", "_", sysconfig.get_platform())
        if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", platform):
            raise SystemExit(f"{PLATFORM_VARIABLE} is {platform!r}: not a platform such as musllinux_1_2_aarch64.")
        return platform

    def library(self) -> Path:
        """Return the library to include."""
        path = os.environ.get(LIBRARY_VARIABLE)
        if path:
            if not Path(path).is_file():
                raise SystemExit(f"{LIBRARY_VARIABLE} names {path}, which is no file.")
            return Path(path).resolve()
        checkout = Path(self.root).parents[1]
        if not (checkout / "Cargo.toml").exists():
            raise SystemExit(
                f"{checkout} is not a checkout of spike_auth. Build in one, or set {LIBRARY_VARIABLE} to a library."
            )
        check = ["/bin/sh", "packaging/prerequisites.sh", "check", "pip"]  # it names what is missing, and the cure
        if subprocess.run(check, cwd=checkout, check=False).returncode:
            raise SystemExit(1)
        # Only one crate type: several in one build disable link-time optimisation.
        build = ["rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib"]
        if subprocess.run([os.environ.get("CARGO", "cargo"), *build], cwd=checkout, check=False).returncode:
            raise SystemExit("cargo could not build the library. Its messages above say why.")
        target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
        return checkout / target / "release" / "libspike_auth.so"
