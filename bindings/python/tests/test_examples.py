"""The examples run as their docstrings say: a script, Flask with gunicorn, FastAPI with uvicorn."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

from helpers import SOURCE, environment, python, user_of, wait_until
from support import project

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
WORKERS = 4
# Each has a connection at both ends, and many systems allow a process 256 descriptors.
USERS = [f"user-{number}" for number in range(100)]
COMMON = "common-user"  # requested by all of them at once
ROUNDS = 4

FAULTS = [  # user, status, error, Retry-After
    ("a b", 400, "InvalidInput", None),
    ("a" * 129, 400, "InvalidInput", None),
    ("fault.status.401", 502, "Rejected", None),
    ("fault.bad-json", 502, "InvalidResponse", None),
    ("fault.close-before", 503, "NetworkError", None),
    ("fault.status.429.and.retry-after.70", 503, "RateLimited", "70"),  # last, as it delays all calls of a client
]

# Warnings of other packages are not ours, except those of a fork in a process with several threads.
ERROR = re.compile(r"\b(ERROR|CRITICAL)\b|\[WARNING\]|^WARNING:|Traceback|Exception|Fatal")
OURS = re.compile(rf"{re.escape(str(SOURCE))}|{re.escape(str(EXAMPLES))}|spike_auth|\bfork\b")


def needs(*modules: str):
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"without {' and '.join(missing)} (make python)")


class Server:
    """An example served by another process."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process, self.log = process, log
        wait_until(lambda: "http://127.0.0.1:" in self.output() or process.poll() is not None)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.output())
        assert found, self.output()
        self.port = int(found[1])

    def output(self) -> str:
        return self.log.read_text()

    def complaints(self) -> list[str]:
        lines = self.output().splitlines()
        return [line for line in lines if ERROR.search(line) or ("Warning:" in line and OURS.search(line))]

    def get(self, user: str) -> tuple[int, dict[str, str], str | None]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/users/{quote(user)}/token")
            reply = connection.getresponse()
            assert reply.status != 200 or reply.headers["Cache-Control"] == "no-store"
            return reply.status, json.load(reply), reply.headers["Retry-After"]
        finally:
            connection.close()

    def token(self, user: str) -> str:
        status, answer, _ = self.get(user)
        assert (status, [*answer]) == (200, ["access_token"]), answer
        assert user_of(answer["access_token"]) == user
        return answer["access_token"]

    def tokens(self) -> dict[str, set[str]]:
        """The tokens of all users at once, each requested `ROUNDS` times, after one for the common user."""
        start, tokens = threading.Barrier(len(USERS)), {user: set() for user in (COMMON, *USERS)}

        def use(user: str) -> None:
            start.wait(30)
            for requested in (COMMON, *[user] * ROUNDS):
                tokens[requested].add(self.token(requested))

        with ThreadPoolExecutor(len(USERS)) as pool:
            list(pool.map(use, USERS))
        return tokens


class Gunicorn(Server):
    def workers(self) -> list[str]:
        """The pids of the workers, in the order of their start."""
        return re.findall(r"Booting worker with pid: (\d+)", self.output())

    def served(self) -> list[tuple[str, str]]:
        """Worker and user of each reply. Lines can be written shortly after the reply."""
        log = self.log.with_name("access").read_text()
        return re.findall(r"^<(\d+)> /users/(.+)/token$", log, re.MULTILINE)


@contextmanager
def serving(kind: type[Server], example: str, addresses: dict, folder: Path, *options: object):
    """Run an example during the block, by the command in its docstring. Then it must end in time."""
    command = re.search(r"^    (.+)$", (EXAMPLES / example).read_text(), re.MULTILINE)[1].split()
    strict = [sys.executable, "-X", "dev", "-m", *command, *map(str, options)]
    foreign = ("FLASK_", "GUNICORN_", "UVICORN_", "WEB_CONCURRENCY")
    env = {name: value for name, value in environment(addresses).items() if not name.startswith(foreign)}
    log = folder / "log"
    with log.open("w") as out, subprocess.Popen(strict, cwd=EXAMPLES, env=env, stdout=out, stderr=out) as process:
        try:
            server = kind(process, log)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()  # no effect if it has ended
    assert addresses["hmac_key"] not in server.output()
    assert "eyJ" not in server.output(), "a token or a part of one"


@contextmanager
def flask_app(addresses: dict, folder: Path, *options: str):
    logs = ("--access-logfile", folder / "access", "--access-logformat", "%(p)s %(U)s")
    own = ("--bind", "127.0.0.1:0", "--no-control-socket", *logs)
    with serving(Gunicorn, "flask_app.py", addresses, folder, *own, *options) as server:
        wait_until(lambda: len(server.workers()) == WORKERS)
        yield server
    assert server.process.returncode == 0
    assert "Shutting down: Master" in server.output()


@contextmanager
def fastapi_app(addresses: dict, folder: Path):
    with serving(Server, "fastapi_app.py", addresses, folder, "--port", 0) as server:
        yield server
    # After its shutdown uvicorn raises the signal again.
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert "Application shutdown complete." in server.output()


APPS = [
    pytest.param(flask_app, marks=needs("flask", "gunicorn")),
    pytest.param(fastapi_app, marks=needs("fastapi", "uvicorn")),
]


def test_script_runs(sandbox, client):
    done = python(EXAMPLES / "script.py", "script-user", env=environment(sandbox))
    assert project.counters(sandbox)["users"]["script-user"] == 1
    length = len(client.token("script-user"))
    printed = f"got a token of {length} characters, and the same again; requests sent: 1\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SPIKE_HMAC_KEY", "wrong", "Rejected: 401 Unauthorized"),
        ("SPIKE_HMAC_KEY", "", "ConfigurationError: "),
        ("SPIKE_API_BASE_URL", "refused", "NetworkError: "),
        ("SPIKE_AUTH_LIBRARY", "absent", "LibraryLoadError: "),
    ],
)
def test_script_prints_its_error(sandbox, variable, value, words):
    env = environment(sandbox, **{variable: sandbox.get(value, value)})
    done = python(EXAMPLES / "script.py", "alice", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(words)
    assert "Traceback" not in done.stderr


@needs("flask", "gunicorn")
@pytest.mark.parametrize("options", [(), ("--threads", "8")], ids=["processes", "threads"])
def test_flask_makes_one_exchange_for_each_user_and_worker(own_sandbox, tmp_path, options):
    with flask_app(own_sandbox, tmp_path, *options) as server:
        tokens = server.tokens()
        wait_until(lambda: len(server.served()) == len(USERS) * (1 + ROUNDS))
        served = server.served()
        workers = {user: {pid for pid, asked in served if asked == user} for user in tokens}
        exchanges = project.counters(own_sandbox)["users"]
    assert {pid for pid, _ in served} == {*server.workers()}
    assert len(server.workers()) == WORKERS
    assert exchanges == {user: len(pids) for user, pids in workers.items()}
    assert exchanges == {user: len(distinct) for user, distinct in tokens.items()}
    assert server.complaints() == []


@needs("fastapi", "uvicorn")
def test_fastapi_makes_one_exchange_for_each_user(own_sandbox, tmp_path):
    with fastapi_app(own_sandbox, tmp_path) as server:
        tokens = server.tokens()
        exchanges = project.counters(own_sandbox)["users"]
    assert exchanges == dict.fromkeys([COMMON, *USERS], 1)
    assert exchanges == {user: len(distinct) for user, distinct in tokens.items()}
    assert server.complaints() == []


@pytest.mark.parametrize("app", APPS)
def test_failures_are_answered_and_logged(sandbox, tmp_path, app):
    with app(sandbox, tmp_path) as server:
        server.token("alice")
        for user, status, error, retry_after in FAULTS:
            assert server.get(user) == (status, {"error": error}, retry_after), user
    assert server.output().count("no token: ") == len(FAULTS)
    assert server.complaints() == []
