"""`diagnose`, and the command that shows it. tests/doctor has what both faces of the doctor make of a report."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers import (
    async_client_of,
    client_of,
    environment,
    in_flight,
    python,
    settings_of,
    until_in_flight,
    wait_until,
)
from spike_auth import AsyncClient, Client, ClientClosed, InvalidInput, Status
from support.surroundings import default_sigint

# Longer than any test waits.
NEVER = 300


@pytest.fixture(params=["Client", "AsyncClient"])
def diagnose(request, sandbox):
    """`diagnose` of a client with these settings."""

    def call(*arguments, settings=None, **more):
        given = {**settings_of(sandbox), **(settings or {})}
        if request.param == "Client":
            return Client(**given).diagnose(*arguments, **more)
        return asyncio.run(AsyncClient(**given).diagnose(*arguments, **more))

    return call


def status_of(report, name: str) -> str:
    return next(check["status"] for check in report["checks"] if check["name"] == name)


def test_the_report_of_what_works_and_of_what_does_not(diagnose):
    report = diagnose("alice")
    assert (report["ok"], report["cure"], status_of(report, "exchange")) == (True, None, "ok")
    report = diagnose("alice", settings={"hmac_key": "wrong"})
    assert (report["ok"], status_of(report, "exchange")) == (False, "failed")
    assert "HMAC key" in report["cure"]


def test_without_a_user_there_is_no_exchange(diagnose):
    for arguments in ((), (None,), ("",)):
        report = diagnose(*arguments)
        assert (report["ok"], status_of(report, "connect"), status_of(report, "exchange")) == (True, "ok", "skipped")


def test_arguments(diagnose):
    with pytest.raises(TypeError, match="^user_id must be a str, not bytes$"):
        diagnose(b"alice")
    with pytest.raises(InvalidInput) as caught:
        diagnose("a b")
    assert caught.value.status is Status.INVALID_USER_ID
    with pytest.raises(InvalidInput, match="timeout"):
        diagnose("alice", timeout=0)


def test_its_own_timeout(diagnose):
    start = time.monotonic()
    report = diagnose("fault.stall", settings={"timeout": NEVER}, timeout=0.3)
    assert time.monotonic() - start < 20
    assert (report["ok"], status_of(report, "exchange")) == (False, "failed")


def test_close_ends_it_in_another_thread(own_sandbox):
    client, caught = client_of(own_sandbox, timeout=NEVER), []

    def call() -> None:
        with pytest.raises(ClientClosed) as error:
            client.diagnose("fault.stall")
        caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: in_flight(own_sandbox) == 1)  # another thread runs meanwhile
    client.close()
    thread.join(20)
    assert len(caught) == 1


async def test_a_task_that_is_cancelled_ends_its_call(own_sandbox):
    client = async_client_of(own_sandbox, timeout=NEVER)
    task = asyncio.ensure_future(client.diagnose("fault.stall"))
    await until_in_flight(own_sandbox, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_in_flight(own_sandbox, 0)


def test_the_command(sandbox):
    for arguments, code in [(["alice"], 0), (["--json", "alice"], 0), ([], 0), (["fault.status.403"], 1)]:
        done = python("-m", "spike_auth", "doctor", *arguments, env=environment(sandbox))
        assert (done.returncode, done.stderr) == (code, "")
    for arguments, code, words in [
        ([""], 1, "USER_ID is empty"),
        (["a b"], 1, "user id"),
        (["--xml"], 2, "usage: "),
        (["alice", "bob"], 2, "usage: "),
    ]:
        done = python("-m", "spike_auth", "doctor", *arguments, env=environment(sandbox))
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr


@pytest.mark.parametrize(("to", "why"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
def test_output_that_cannot_be_written_is_a_failure(sandbox, to, why):
    command = ["sh", "-c", f'exec "$0" -X dev -W error -m spike_auth doctor alice {to}', sys.executable]
    done = subprocess.run(command, check=False, env=environment(sandbox), text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, f"spike_auth: cannot write to stdout: {why}\n")


def test_ctrl_c_ends_the_command_at_once(own_sandbox):
    command = [sys.executable, "-m", "spike_auth", "doctor", "fault.stall"]
    with default_sigint():
        env = environment(own_sandbox, SPIKE_TIMEOUT_MS=str(1000 * NEVER))
        process = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        wait_until(lambda: in_flight(own_sandbox) > 0)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == -signal.SIGINT
