"""The machine and the versions that the figures are for."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from programs import GO


def describe(versions: list[str]) -> str:
    """One line: the processor, then the measured versions."""
    info = cpu_info()
    sha = "yes" if "sha_ni" in info.get("flags", "").split() else "no"
    cpu = f"{info.get('model name', platform.machine())}, {os.cpu_count()} cores, sha_ni {sha}"
    system = f"{platform.system()} {platform.release()}"
    return "; ".join([cpu, system, *versions, *tool_versions()])


def cpu_info() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def tool_versions() -> list[str]:
    found = [f"Python {platform.python_version()}"]
    for name, command in [("Go", [GO, "env", "GOVERSION"]), ("Node", ["node", "--version"]),
                          ("PHP", ["php", "-r", "echo PHP_VERSION;"])]:
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            found.append(f"{name} {done.stdout.strip().removeprefix('go').removeprefix('v')}")
    return found
