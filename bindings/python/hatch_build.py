"""Puts the shared library into the wheel, which is thereby one for this kind of machine."""

import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Takes the place of the library that cargo builds: one for older systems, say.
LIBRARY_VARIABLE = "SPIKE_AUTH_WHEEL_LIBRARY"
IN_PACKAGE = "spike_auth/libspike_auth.so"


class LibraryHook(BuildHookInterface[Any]):
    """Builds `py3-none-<platform>`: nothing in it is for one version of Python, and the library is for one platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files."""
        if self.target_name != "wheel":
            raise RuntimeError("Build a wheel from a checkout: a source distribution would lack the library's source.")
        if version == "editable":
            return  # a library beside the source would go stale: SPIKE_AUTH_LIBRARY names the one to use
        platform = re.sub(r"[^0-9a-zA-Z_]", "_", sysconfig.get_platform())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(self.library())] = IN_PACKAGE

    def library(self) -> Path:
        """The library that is put in."""
        named = os.environ.get(LIBRARY_VARIABLE)
        if named:
            return Path(named).resolve(strict=True)
        checkout = Path(self.root).parents[1]
        if not (checkout / "Cargo.toml").exists():
            raise RuntimeError(
                f"{checkout} is no checkout of spike_auth. Build there, or name a library in {LIBRARY_VARIABLE}."
            )
        # One kind of library alone: several in one build turn link-time optimisation off.
        build = ["rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib"]
        subprocess.run([os.environ.get("CARGO", "cargo"), *build], cwd=checkout, check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
        return checkout / target / "release" / "libspike_auth.so"
