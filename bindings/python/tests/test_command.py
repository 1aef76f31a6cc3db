"""python -m spike_auth"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from helpers import environment, in_flight, python, user_of, wait_until
from spike_auth import sign_user
from support.surroundings import default_sigint


def run(addresses, *arguments: str, **more: str):
    return python("-m", "spike_auth", *arguments, env=environment(addresses, **more))


def test_sign_and_token(sandbox):
    done = run(sandbox, "sign", "alice")
    assert (done.returncode, done.stdout, done.stderr) == (0, sign_user(sandbox["hmac_key"], "alice") + "\n", "")
    done = run(sandbox, "token", "alice")
    assert (done.returncode, done.stderr, user_of(done.stdout.strip())) == (0, "", "alice")


@pytest.mark.parametrize(
    ("user", "variables", "words"),
    [
        ("a b", {}, "user id"),
        ("fault.status.403", {}, "403"),
        ("alice", {"SPIKE_HMAC_KEY": "wrong"}, "401"),
        ("alice", {"SPIKE_TIMEOUT_MS": "soon"}, "SPIKE_TIMEOUT_MS"),
    ],
)
def test_a_failure_is_one_line(sandbox, user, variables, words):
    done = run(sandbox, "token", user, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("spike_auth: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert sandbox["hmac_key"] not in done.stderr


def test_a_library_that_does_not_load_shows_no_traceback(sandbox, tmp_path):
    absent = {"SPIKE_AUTH_LIBRARY": str(tmp_path / "absent")}
    done = run(sandbox, "sign", "alice", **absent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("spike_auth: The spike_auth library cannot be loaded. Tried:\n")
    assert "Traceback" not in done.stderr
    done = run(sandbox, "--help", **absent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "SPIKE_HMAC_KEY" in done.stdout


@pytest.mark.parametrize("arguments", ["", "sign", "steal alice", "sign alice KEY", "sign --key KEY alice"])
def test_bad_arguments(sandbox, arguments):
    done = run(sandbox, *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python -m spike_auth" in done.stderr


@pytest.mark.parametrize(("to", "why"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
def test_a_result_that_cannot_be_written_is_a_failure(sandbox, to, why):
    command = ["sh", "-c", f'exec "$0" -X dev -W error -m spike_auth sign alice {to}', sys.executable]
    done = subprocess.run(command, check=False, env=environment(sandbox), text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, f"spike_auth: cannot write to stdout: {why}\n")


def test_ctrl_c(own_sandbox):
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "spike_auth", "token", "fault.stall"]
    with default_sigint():
        process = subprocess.Popen(command, env=environment(own_sandbox), text=True, stderr=subprocess.PIPE)
    with process:
        wait_until(lambda: in_flight(own_sandbox) > 0)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=20)
    assert (process.returncode, printed) == (130, "")
