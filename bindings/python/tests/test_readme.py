"""The README's programs run, and its tables and messages are correct."""

from __future__ import annotations

import builtins
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

import spike_auth
from helpers import environment, python, without_library
from spike_auth import Status, arrow

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_program_runs(sandbox):
    program = blocks("python")[0]
    done = python("-c", program, "alice", env=environment(sandbox))
    assert (done.returncode, done.stdout, done.stderr) == (0, "got a header of 126 characters\n", "")
    done = python("-c", program, env=environment(sandbox, SPIKE_HMAC_KEY="wrong"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("UNAUTHORIZED: 401 Unauthorized")


def test_the_calls_run(client):
    names = {"client": client, "token": "token", "signature": client.sign("alice"), "user_ids": ["alice"]}
    exec(blocks("python")[1], names)


def test_the_columns_run(client, monkeypatch):
    monkeypatch.setitem(arrow._made, "client", client)
    (program,) = (block for block in blocks("python") if "arrow" in block)
    names = {"client": client, "column": pa.array(["alice", None])}
    exec(program, names)
    assert names["signatures"].to_pylist() == [client.sign("alice"), None]
    assert names["statuses"].to_pylist() == names["batch"]["status"].to_pylist() == [0, None]


def test_the_command_runs(sandbox, tmp_path):
    (line,) = (line for block in blocks("sh") for line in block.splitlines() if " provision " in line)
    (tmp_path / "users.csv").write_text("user_id\nalice\n")
    command = [sys.executable, *shlex.split(line)[1:]]
    for _ in range(2):
        subprocess.run(command, env=environment(sandbox), cwd=tmp_path, check=True, capture_output=True, timeout=60)


def test_the_table_lists_the_exceptions():
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)` )?\| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    assert {row[0] for row in rows} == {family.__name__ for family in spike_auth.SpikeAuthError.__subclasses__()}
    for name, builtin, statuses, advice in rows:
        family = getattr(spike_auth, name)
        assert family.__bases__ == (spike_auth.SpikeAuthError, *([getattr(builtins, builtin)] if builtin else []))
        assert {Status[status] for status in re.findall(r"`(\w+)`", statuses)} == {*family.statuses}
        assert advice


def test_the_load_error_is_the_real_one(package):
    (block,) = blocks("text")
    printed = python("-c", "from spike_auth import Client", env=without_library(package)).stderr
    assert block.replace("/app/lib/python3/site-packages", str(package)) in printed


def test_every_name_exists():
    for name in re.findall(r"client\.(\w+)\(", README):
        assert hasattr(spike_auth.Client, name), name
    for line in re.findall(r"from spike_auth(?:\.\w+)? import .*$", README, re.MULTILINE):
        exec(line.partition("`")[0], {})
