"""The recipes and command lines of docs/columns.md, and what it takes to run them as they are printed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

from python import Interpreter, interpreters
from support.pages import DOCS, blocks
from support.project import ROOT, SHARED, clean_env, run, settings

PAGE = DOCS["columns"]
HERE = Path(__file__).resolve().parent
# The longest run of a recipe; Spark needs half a minute to start on a busy machine.
SECONDS = 240
# The newest for which all engines have wheels.
NEWEST = (3, 13)

# Spark's Snappy does not load where musl is installed beside glibc, so the files are zstd.
WRITE = """
import json, os, sys, pyarrow, pyarrow.parquet
for path, ids in json.load(sys.stdin).items():
    os.makedirs(os.path.dirname(path), exist_ok=True)
    table = pyarrow.table({"id": pyarrow.array(ids, pyarrow.string())})
    pyarrow.parquet.write_table(table, path, compression="zstd")
"""
READ = """
import json, sys, pyarrow.dataset
table = pyarrow.dataset.dataset(sys.argv[1]).to_table()
json.dump([table["id"].to_pylist(), table["status"].to_pylist()], sys.stdout)
"""


def interpreter() -> Interpreter:
    """The newest CPython of this machine that is not too new. Free-threaded builds have no wheels."""
    fit = [each for each in interpreters().values() if not each.missing and re.fullmatch(r"3\.\d+", each.series)]
    return max((each for each in fit if series(each) <= NEWEST), key=series)


def series(each: Interpreter) -> tuple[int, ...]:
    return tuple(map(int, each.series.split(".")))


def recipe(named: str) -> str:
    """The program that imports it."""
    (found,) = [block for block in blocks("python", PAGE) if re.search(rf"^(?:import|from) {named}\b", block, re.M)]
    return found


def command(named: str) -> str:
    (found,) = [block for block in blocks("sh", PAGE) if block.startswith(named)]
    return found


# What the page says about signatures: the other function, and the string type of the engine.
TYPES = {'"INTEGER"': '"VARCHAR"', "polars.Int32": "polars.String", "status int": "status string", '"int32"': '"string"'}


def signing(program: str) -> str:
    program = program.replace("arrow.provision(", "arrow.sign(")
    for number, text in TYPES.items():
        program = program.replace(number, text)
    return program


def end_session(leader: int) -> None:
    """Kills what is left of a session. The workers of Spark and Ray are in process groups of their own."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[3] == str(leader):
                os.kill(int(stat.parent.name), signal.SIGKILL)


class Job:
    """A folder with users, the settings of a job, and the Python that runs it."""

    def __init__(self, python: Path, folder: str, addresses: dict, store_url: str = "") -> None:
        self.python, self.folder = python, Path(folder)
        (self.folder / "key").write_text(addresses["hmac_key"])
        (self.folder / "store-url").write_text(store_url or "unix:///nowhere/at/all.sock")
        path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
        # HOME: Ray keeps a password there.
        self.env = clean_env(PATH=path, HOME=folder, PYTHONPATH=str(ROOT / "bindings" / "python" / "src"),
                             PYTHONDONTWRITEBYTECODE="1", SPIKE_AUTH_LIBRARY=str(SHARED))
        self.service = {"SPIKE_API_BASE_URL": settings(addresses)["SPIKE_API_BASE_URL"]}

    def here(self, text: str) -> str:
        """With the files of secrets where they are."""
        for printed, name in [("/run/secrets/spike-hmac-key", "key"), ("/run/secrets/spike-store-url", "store-url")]:
            text = text.replace(printed, str(self.folder / name))
        return text

    def worker_env(self) -> dict[str, str]:
        """The environment after the page's exports."""
        said = run("bash", "-euc", f"{self.here(command('export'))}\nenv -0", env={**self.env, **self.service})
        return dict(line.split("=", 1) for line in said.rstrip("\0").split("\0"))

    def write(self, parts: dict[str, list[str | None]]) -> None:
        """Parquet files of users by their path."""
        run(self.python, "-c", WRITE, cwd=self.folder, env=self.env, input=json.dumps(
            {f"./{path}": ids for path, ids in parts.items()}))

    def run_line(self, line: str, program: str = "", env: dict[str, str] | None = None) -> str:
        """A command line as it is printed."""
        return self.run("bash", "-euc", self.here(line), program=program, env=env)

    def run(self, *words: object, program: str = "", env: dict[str, str] | None = None) -> str:
        """All that it says."""
        (self.folder / "provision.py").write_text(program)
        process = subprocess.Popen([str(word) for word in words], cwd=self.folder, env=env or self.worker_env(),
                                   text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            said, _ = process.communicate(timeout=SECONDS)
        finally:
            end_session(process.pid)
            process.wait()
        assert process.returncode == 0, f"{words} ended with {process.returncode}:\n{said}"
        return said

    def statuses(self, path: str) -> dict[str | None, int | str | None]:
        """What the recipe wrote for each user, who are all there once."""
        ids, statuses = json.loads(run(self.python, "-c", READ, path, cwd=self.folder, env=self.env))
        assert max(Counter(ids).values()) == 1, "a user is there twice"
        return dict(zip(ids, statuses, strict=True))
