"""The texts of the README and of docs/, their programs and tables, and programs of users in Python and Go."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from support.project import RELEASE, ROOT, clean_env, run, scratch

README = (ROOT / "README.md").read_text()
DOCS = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")}


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.S | re.M)


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    _, _, rest = DOCS[page].partition(f"\n{heading}\n")
    rows = re.search(r"(?:^\|.*\n)+", rest, re.M).group(0).splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def run_python(program: str, env: dict[str, str]) -> str:
    binding = ROOT / "bindings" / "python" / "src"
    env = clean_env(PYTHONPATH=str(binding), SPIKE_AUTH_LIBRARY=str(RELEASE / "libspike_auth.so"), **env)
    return run(sys.executable, "-B", "-c", program, env=env)


def run_go(program: str, env: dict[str, str]) -> str:
    """In a module of its own."""
    tool = os.environ.get("GO", "go")
    offline = {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    module = "github.com/spike-auth/spike-auth/bindings/go"
    env = clean_env(PKG_CONFIG_PATH=str(ROOT / "target" / "go"), **offline, **env)
    with scratch() as folder:
        (Path(folder) / "main.go").write_text(program)
        run(tool, "mod", "init", "example.com/readme", cwd=folder, env=env)
        replaced = [f"-require={module}@v0.0.0", f"-replace={module}={ROOT / 'bindings' / 'go'}"]
        run(tool, "mod", "edit", "-go=1.24", *replaced, cwd=folder, env=env)
        return run(tool, "run", ".", cwd=folder, env=env)
