"""python -m spike_auth"""

from __future__ import annotations

import signal
import subprocess
import sys

from helpers import environment, in_flight, python, user_of, wait_until
from spike_auth import sign_user
from support.surroundings import default_sigint


def run(addresses, *arguments: str, **more: str):
    return python("-m", "spike_auth", *arguments, env=environment(addresses, **more))


def test_sign(sandbox):
    done = run(sandbox, "sign", "alice")
    assert (done.returncode, done.stdout, done.stderr) == (0, sign_user(sandbox["hmac_key"], "alice") + "\n", "")


def test_token(sandbox):
    done = run(sandbox, "token", "alice")
    assert (done.returncode, done.stderr, user_of(done.stdout.strip())) == (0, "", "alice")


def test_what_fails_is_said_in_a_line(sandbox, tmp_path):
    for arguments, more, words in [
        (["token", "a b"], {}, "user id"),
        (["token", "fault.status.403"], {}, "403"),
        (["token", "alice"], {"SPIKE_HMAC_KEY": "wrong"}, "401"),
        (["token", "alice"], {"SPIKE_TIMEOUT_MS": "soon"}, "SPIKE_TIMEOUT_MS"),
    ]:
        done = run(sandbox, *arguments, **more)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("spike_auth: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert sandbox["hmac_key"] not in done.stderr


def test_a_library_that_does_not_load_is_said_without_a_traceback(sandbox, tmp_path):
    done = run(sandbox, "sign", "alice", SPIKE_AUTH_LIBRARY=str(tmp_path / "absent"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("spike_auth: The library of spike_auth cannot be loaded. Tried:\n")
    assert "Traceback" not in done.stderr


def test_bad_arguments(sandbox):
    for arguments in ([], ["sign"], ["steal", "alice"], ["sign", "alice", "KEY"], ["sign", "--key", "KEY", "alice"]):
        done = run(sandbox, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage: python -m spike_auth" in done.stderr


def test_a_result_that_cannot_be_written_is_no_success(sandbox):
    for to, why in [(">&-", "it is closed"), (">/dev/full", "No space left on device")]:
        command = f'exec "$0" -X dev -W error -m spike_auth sign alice {to}'
        env = environment(sandbox)
        done = subprocess.run(
            ["sh", "-c", command, sys.executable], check=False, env=env, text=True, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (1, f"spike_auth: cannot write to stdout: {why}\n")


def test_help_needs_no_library(tmp_path):
    done = python("-m", "spike_auth", "--help", env=environment(SPIKE_AUTH_LIBRARY=str(tmp_path / "absent")))
    assert (done.returncode, done.stderr) == (0, "")
    assert "SPIKE_HMAC_KEY" in done.stdout


def test_ctrl_c(own_sandbox):
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "spike_auth", "token", "fault.stall"]
    with default_sigint():
        process = subprocess.Popen(command, env=environment(own_sandbox), text=True, stderr=subprocess.PIPE)
    with process:
        wait_until(lambda: in_flight(own_sandbox) > 0)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "")
