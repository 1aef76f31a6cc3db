"""What the README prints is what there is."""

from __future__ import annotations

import builtins
import re
import shutil
from pathlib import Path

import spike_auth
from helpers import SOURCE, environment, python
from spike_auth import Status

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_its_program_gets_a_token(sandbox):
    done = python("-c", blocks("python")[0], "alice", env=environment(sandbox))
    assert (done.returncode, done.stdout, done.stderr) == (0, "got a header of 126 characters\n", "")


def test_its_program_says_what_is_wrong(sandbox):
    done = python("-c", blocks("python")[0], env=environment(sandbox, SPIKE_HMAC_KEY="wrong"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("UNAUTHORIZED: 401 Unauthorized")


def test_its_lines_run(client):
    names = {"client": client, "token": "token", "signature": client.sign("alice"), "user_ids": ["alice"]}
    exec(blocks("python")[1], names)


def test_its_table_is_that_of_the_exceptions():
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)` )?\| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    families = {
        name: value
        for name, value in vars(spike_auth).items()
        if isinstance(value, type) and issubclass(value, spike_auth.SpikeAuthError)
    }
    del families["SpikeAuthError"]
    assert {row[0] for row in rows} == families.keys()
    for name, builtin, statuses, advice in rows:
        family = families[name]
        assert family.__bases__ == (spike_auth.SpikeAuthError, *([getattr(builtins, builtin)] if builtin else []))
        assert {Status[status] for status in re.findall(r"`(\w+)`", statuses)} == {*family.statuses}
        assert advice


def test_the_error_it_prints_is_the_one_that_is_raised(tmp_path):
    (block,) = blocks("text")
    package = tmp_path / "site-packages"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    env = environment(PYTHONPATH=str(package))
    del env["SPIKE_AUTH_LIBRARY"]
    said = python("-c", "from spike_auth import Client", env=env).stderr
    assert block.replace("/app/lib/python3/site-packages", str(package)) in said


def test_every_name_it_uses_exists():
    for name in re.findall(r"client\.(\w+)\(", README):
        assert hasattr(spike_auth.Client, name), name
    for line in re.findall(r"from spike_auth(?:\.\w+)? import .*$", README, re.MULTILINE):
        exec(line.partition("`")[0], {})
