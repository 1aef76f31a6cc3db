"""python -m spike_auth provision"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from itertools import pairwise

import pyarrow as pa
import pytest
from pyarrow import parquet

from helpers import environment, in_flight, wait_until
from support.project import counters, sandbox, set_fault
from support.surroundings import default_sigint

COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "spike_auth", "provision"]
NO_STORE = "spike_auth: no store is set (SPIKE_STORE_URL): the tokens end with this command\n"


def provision(addresses, *arguments, **more):
    """The exit code, the lines of stdout, and stderr without the words about the store."""
    options = {"env": environment(addresses), "capture_output": True, "timeout": 90, **more}
    done = subprocess.run([*COMMAND, *map(str, arguments)], check=False, **options)
    lines = [*map(json.loads, done.stdout.splitlines())]
    return done.returncode, lines, done.stderr.decode().removeprefix(NO_STORE)


@contextlib.contextmanager
def started(addresses, *arguments, **more):
    with (
        default_sigint(),
        subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=environment(addresses),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def asked(addresses) -> dict[str, int]:
    return counters(addresses)["users"]


def counts(line):
    return {name: line[name] for name in ("ok", "failed", "blank", "done_before")}


def file_of(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table_of(path, **columns):
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


LINES = "alice\n\n  bob  \r\nlast"
CSV = 'name,"user id"\r\n"Al, ""A""\n Ice",alice\r\n\r\nshort\r\n,"bob"\r\nx, last\n'
INPUTS = {
    "lines": (LINES, "users.txt", ()),
    "lines with a byte order mark": ("\ufeff" + LINES, "users", ()),
    "csv": (CSV, "users.csv", ("--column", "user id")),
    "csv with a byte order mark": ("\ufeffuser id,x\nalice\n\n,\nbob\nlast,1", "users.CSV", ("--column", "user id")),
    "the first column": ("id,x\nalice,1\nbob,2\n,3\nlast", "users.csv", ()),
    "another name": (CSV, "users.txt", ("--format", "csv", "--column", "user id")),
}


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("is_stdin", [False, True])
def test_inputs(own_sandbox, tmp_path, given, is_stdin):
    text, name, options = INPUTS[given]
    path = file_of(tmp_path / name, text)
    if is_stdin:
        kind = () if "--format" in options else ("--format", "csv" if "csv" in name.lower() else "lines")
        code, lines, printed = provision(own_sandbox, "-", *options, *kind, input=text.encode())
    else:
        code, lines, printed = provision(own_sandbox, path, *options)
    assert (code, printed) == (0, "")
    assert asked(own_sandbox) == {"alice": 1, "bob": 1, "last": 1}
    assert lines[-1]["end"] == "complete"
    blank = text.count("short") + ("\n\n" in text or "\r\n\r\n" in text) + text.count("\n,\n") + text.count("\n,3")
    assert counts(lines[-1]) == {"ok": 3, "failed": 0, "blank": blank, "done_before": 0}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("is_stdin", [False, True])
def test_parquet(own_sandbox, tmp_path, kind, is_stdin):
    ids = pa.array(["alice", None, "", "bob", "last"]).cast(kind)
    path = table_of(tmp_path / "users.parquet", x=pa.array(range(5)), user=ids)
    options = ("--column", "user")
    if is_stdin:
        code, lines, printed = provision(own_sandbox, "-", "--format", "parquet", *options, input=path.read_bytes())
    else:
        code, lines, printed = provision(own_sandbox, path, *options)
    assert (code, printed, counts(lines[-1])) == (0, "", {"ok": 3, "failed": 0, "blank": 2, "done_before": 0})
    assert asked(own_sandbox) == {"alice": 1, "bob": 1, "last": 1}


@pytest.mark.parametrize(
    ("name", "text"), [("empty.txt", ""), ("empty.csv", ""), ("header.csv", "user\n"), ("blank.txt", "\n\n \n")]
)
def test_nothing_to_do(sandbox, tmp_path, name, text):
    code, lines, printed = provision(sandbox, file_of(tmp_path / name, text))
    assert (code, printed, lines[-1]["ok"], lines[-1]["failed"]) == (0, "", 0, 0)
    table_of(tmp_path / "empty.parquet", user=pa.array([], pa.string()))
    assert provision(sandbox, tmp_path / "empty.parquet")[0] == 0


@pytest.mark.parametrize(
    ("name", "text", "options", "words"),
    [
        ("users.csv", "id,x\na,b\n", ("--column", "user"), "there is no column 'user'. The columns are: id, x"),
        ("users.csv", b"id\nalice\n\xff\xfe\n", (), "not UTF-8 after line 2"),
        ("users.csv", 'id\n"alice\n', (), "no CSV at line"),
        ("users.csv", 'id\n"alice"x\n', (), "no CSV at line 2"),
        ("users.txt", "x" * (1 << 20) + "\n", (), "line 1 has 1048576 bytes or more: this is no file of user ids"),
        ("users.parquet", "alice\n", (), "the input is no Parquet file"),
        ("users.parquet", {"id": ["a"]}, ("--column", "user"), "there is no column 'user'. The columns are: id"),
        ("users.parquet", {"id": [1, 2]}, (), "column 'id': column must be of a string type of Arrow, not int64"),
        ("absent.txt", None, (), "No such file or directory"),
        ("", None, (), "Is a directory"),
        ("users.txt", "alice\n", ("--column", "id"), "--column is for csv and parquet"),
    ],
)
def test_an_input_that_cannot_be_read(own_sandbox, tmp_path, *, name, text, options, words):
    if isinstance(text, dict):
        table_of(tmp_path / name, **text)
    elif text is not None:
        file_of(tmp_path / name, text)
    code, _, printed = provision(own_sandbox, tmp_path / name, *options)
    assert code == 1
    assert words in printed
    assert printed.startswith("spike_auth: ")
    assert "Traceback" not in printed


def test_binary_junk_is_bad_ids(own_sandbox, tmp_path):
    junk = random.Random(1).randbytes(20_000).replace(b"\n", b"") + b"\n"
    code, lines, printed = provision(own_sandbox, file_of(tmp_path / "junk", junk * 3 + b"alice\n"))
    assert (code, printed, lines[-1]["ok"]) == (1, "", 1)
    assert lines[-1]["statuses"]["INVALID_USER_ID"]["count"] == 3


def test_a_file_that_may_not_be_read(sandbox, tmp_path):
    path = file_of(tmp_path / "users", "alice\n")
    path.chmod(0)
    tmp_path.chmod(0o755)
    if os.access(path, os.R_OK):  # root may read all: a descriptor of another's memory may not be
        path = "/proc/self/mem"
    code, _, printed = provision(sandbox, path)
    assert code == 1
    assert "cannot" in printed


@pytest.mark.parametrize("option", ["--rate", "--concurrency", "--timeout"])
@pytest.mark.parametrize("value", ["x", "-1", "1e9"])
def test_bad_numbers(sandbox, tmp_path, option, value):
    code, lines, printed = provision(sandbox, file_of(tmp_path / "users", "alice\n"), f"{option}={value}")
    assert (code, lines) == (2, [])
    assert printed


def test_the_state_may_not_be_the_input(sandbox, tmp_path):
    path = file_of(tmp_path / "users", "")
    code, _, printed = provision(sandbox, path, "--resume", path)
    assert (code, path.read_bytes()) == (2, b"")
    assert "--resume names the input itself" in printed


def test_the_table_of_statuses(own_sandbox, tmp_path):
    users = ["alice", "fault.status.403", "", "a b", "bob", *(f"fault.status.403.{each}" for each in range(8)), "é"]
    code, lines, printed = provision(own_sandbox, file_of(tmp_path / "users", "\n".join(users)), "--concurrency", 1)
    assert (code, printed) == (1, "")
    assert counts(lines[-1]) == {"ok": 2, "failed": 11, "blank": 1, "done_before": 0}
    statuses = lines[-1]["statuses"]
    assert {name: (each["count"], each["first_rows"]) for name, each in statuses.items()} == {
        "FORBIDDEN": (9, [2, 6, 7, 8, 9]),
        "INVALID_USER_ID": (2, [4, 14]),
    }
    assert statuses["FORBIDDEN"]["reason"].startswith("403")


def test_no_secret_and_no_id_is_shown_or_kept(own_sandbox, tmp_path):
    users = [f"secret.{each}" for each in range(200)] + ["fault.status.403.secret", "fault.echo.422.secret", "secret x"]
    state = tmp_path / "state"
    path = file_of(tmp_path / "users", "\n".join(users))
    done = subprocess.run(
        [*COMMAND, path, "--resume", state], env=environment(own_sandbox), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    for written in (done.stdout, done.stderr, state.read_bytes()):
        for secret in (b"secret", own_sandbox["hmac_key"].encode(), b"eyJ"):
            assert secret not in written


def test_a_line_a_second(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"fault.delay.100.{each}\n" for each in range(60)))
    code, lines, _ = provision(own_sandbox, path, "--concurrency", 2)
    assert code == 0
    assert 2 <= len(lines) - 1 <= 20
    for before, line in pairwise(lines[:-1]):
        assert line["seconds"] - before["seconds"] > 0.7
    for line in lines[:-1]:
        assert line["rate"] > 0
        assert abs(line["percent"] - 100 * line["ok"] / 60) < 1
        assert line["seconds_left"] >= 0


def test_what_ends_it_early(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"user.{each}\n" for each in range(10_000)))
    state = tmp_path / "a state"
    go_on = f"spike_auth: Go on with: {shlex.join(['python', '-m', 'spike_auth', 'provision', str(path)])} --resume"
    wrong = {"SPIKE_HMAC_KEY": "wrong"}
    code, lines, printed = provision(own_sandbox, path, "--resume", state, env=environment(own_sandbox, **wrong))
    assert code == 1
    assert lines[-1]["end"] == "stopped"
    assert 100 <= lines[-1]["failed"] <= 100 + 64
    first, last = printed.splitlines()
    assert first.startswith("spike_auth: stopped: 100 users in a row failed with UNAUTHORIZED. 401 ")
    assert "Check the application id and the HMAC key" in first
    assert re.sub(r"python[\d.]*", "python", last, count=1) == f"{go_on} {shlex.quote(str(state))}"

    silent = {"SPIKE_API_BASE_URL": own_sandbox["refused"]}
    code, lines, printed = provision(own_sandbox, path, "--timeout", 1, env=environment(own_sandbox, **silent))
    assert code == 1
    assert "100 users in a row failed with CONNECT" in printed
    assert printed.endswith("The next run begins at the first row. With --resume STATE it would go on here.\n")

    # What failed is tried again.
    code, lines, printed = provision(own_sandbox, path, "--resume", state, "--concurrency", 64)
    assert (code, printed) == (0, "")
    assert counts(lines[-1]) == {"ok": 10_000, "failed": 0, "blank": 0, "done_before": 0}


def test_failures_of_users_do_not_end_it(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"fault.status.403.{each}\n" for each in range(300)) + "a b\n" * 300)
    code, lines, printed = provision(own_sandbox, path)
    assert (code, printed, lines[-1]["end"], lines[-1]["failed"]) == (1, "", "complete", 600)


def test_settings_that_are_wrong(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "alice\n")
    for variables, words in [
        ({"SPIKE_TIMEOUT_MS": "soon"}, "SPIKE_TIMEOUT_MS"),
        ({"SPIKE_STORE_URL": "redis://127.0.0.1:1"}, "store"),
        ({"SPIKE_STORE_URL": "http://x"}, "store"),
    ]:
        code, lines, printed = provision(own_sandbox, path, env=environment(own_sandbox, **variables))
        assert (code, lines) == (1, [])
        assert words in printed
        assert printed.startswith("spike_auth: ")
        assert printed.count("\n") == 1
    keyless = environment(own_sandbox)
    del keyless["SPIKE_HMAC_KEY"]
    code, lines, printed = provision(own_sandbox, path, env=keyless)
    assert (code, lines[-1]["end"]) == (1, "stopped")
    assert "key" in printed


def test_a_store_is_filled(own_sandbox, store, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"user.{each}\n" for each in range(500)))
    env = environment(own_sandbox, SPIKE_STORE_URL=store)
    for _ in range(2):  # the second command finds all in the store
        done = subprocess.run([*COMMAND, path], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout.splitlines()[-1])["ok"] == 500
    assert counters(own_sandbox)["requests"] == 500


def test_killed_three_times_and_resumed(tmp_path):
    """No id is lost, and no more are asked for again than were in flight at each kill."""
    users, in_flight_at_most = 10_000, 64
    path = file_of(tmp_path / "users", "".join(f"user.{each}\n" for each in range(users)))
    arguments = [path, "--resume", tmp_path / "state", "--concurrency", in_flight_at_most]
    rates = random.Random()
    with sandbox("--delay-ms", "5") as addresses:
        for _ in range(3):
            until = counters(addresses)["requests"] + rates.randrange(200, 2500)
            with started(addresses, *arguments) as process:
                wait_until(lambda most=until: counters(addresses)["requests"] >= most)
                process.kill()
        code, lines, printed = provision(addresses, *arguments)
        assert (code, printed) == (0, "")
        seen = counters(addresses)
    assert {*seen["users"]} == {f"user.{each}" for each in range(users)}
    assert seen["requests"] <= users + 3 * in_flight_at_most
    assert lines[-1]["ok"] + lines[-1]["done_before"] == users
    assert lines[-1]["done_before"] >= 3 * (200 - in_flight_at_most)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_it_cleanly(own_sandbox, tmp_path, number, code):
    path = file_of(tmp_path / "users", "".join(f"fault.delay.200.{each}\n" for each in range(400)))
    arguments = [path, "--resume", tmp_path / "state", "--concurrency", 16]
    with started(own_sandbox, *arguments) as process:
        wait_until(lambda: counters(own_sandbox)["requests"] >= 48)
        process.send_signal(number)
        begun = time.monotonic()
        printed, errors = process.communicate(timeout=20)
        assert time.monotonic() - begun < 10
    assert process.returncode == code
    assert "Go on with: python" in errors
    last = json.loads(printed.splitlines()[-1])
    assert last["end"] == "interrupted"
    assert last["ok"] == counters(own_sandbox)["requests"] < 200  # those in flight ended
    _, lines, _ = provision(own_sandbox, path, "--resume", tmp_path / "state", "--concurrency", 50)
    assert counts(lines[-1]) == {"ok": 400 - last["ok"], "failed": 0, "blank": 0, "done_before": last["ok"]}
    assert counters(own_sandbox)["requests"] == 400


def test_calls_that_last_do_not_hold_it_up(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "fault.stall\n")
    for signals, most in [((signal.SIGTERM,), 12), ((signal.SIGINT, signal.SIGINT), 10)]:
        with started(own_sandbox, path, "--timeout", 60) as process:
            wait_until(lambda: in_flight(own_sandbox) == 1)
            begun = time.monotonic()
            for number in signals:
                process.send_signal(number)
                time.sleep(0.3)
            process.communicate(timeout=30)
            assert time.monotonic() - begun < most
            assert process.returncode == 128 + signals[0]
        wait_until(lambda: in_flight(own_sandbox) == 0)


def test_a_signal_ends_a_read(own_sandbox):
    for already in ("", "alice\n"):
        with started(own_sandbox, "-", stdin=subprocess.PIPE) as process:
            process.stdin.write(already)
            process.stdin.flush()
            assert process.stderr.readline() == NO_STORE  # the file is open
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            assert process.returncode == 143
            assert "Traceback" not in process.stderr.read()


def test_two_commands_on_one_state(own_sandbox, tmp_path):
    path, state = file_of(tmp_path / "users", "fault.stall\n"), tmp_path / "state"
    with started(own_sandbox, path, "--resume", state):
        wait_until(lambda: in_flight(own_sandbox) == 1)
        code, lines, printed = provision(own_sandbox, path, "--resume", state)
    assert (code, lines) == (1, [])
    assert f"another command uses {state}" in printed


def test_another_input_with_a_state(own_sandbox, tmp_path):
    state = tmp_path / "state"
    assert provision(own_sandbox, file_of(tmp_path / "one", "alice\nbob\n"), "--resume", state)[0] == 0
    code, lines, printed = provision(own_sandbox, file_of(tmp_path / "other", "carol\nbob\n"), "--resume", state)
    assert (code, lines[-1]["end"]) == (1, "stopped")
    assert "rows 1 to 2 are not those that" in printed
    assert "Go on with" not in printed
    assert "carol" not in asked(own_sandbox)


def test_a_full_disk(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"user.{each}\n" for each in range(9000)))
    arguments = [path, "--resume", tmp_path / "state", "--concurrency", 64]

    # In the middle of a record.
    limit = (
        "import os, resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, (3000, 3000)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", limit, *COMMAND, *map(str, arguments)]
    done = subprocess.run(command, env=environment(own_sandbox), capture_output=True, timeout=60, check=False)
    code, lines, printed = done.returncode, [*map(json.loads, done.stdout.splitlines())], done.stderr.decode()
    assert code == 1
    assert "cannot write" in printed
    assert "Go on with" in printed
    assert lines[-1]["ok"] == 4096  # those that have a record
    code, lines, _ = provision(own_sandbox, *arguments)
    assert (code, lines[-1]["done_before"]) == (0, 4096)
    assert counters(own_sandbox)["requests"] == 9000


def test_stdout_that_cannot_be_written(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"fault.delay.100.{each}\n" for each in range(100)))
    command = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *COMMAND, str(path), "--concurrency", "2"]
    done = subprocess.run(command, env=environment(own_sandbox), capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"cannot write to stdout: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert counters(own_sandbox)["requests"] < 100


def test_a_wave_of_429(tmp_path):
    """All pause for it. From then on one request at a time asks whether it is over, and nobody is lost."""
    path = file_of(tmp_path / "users", "".join(f"user.{each}\n" for each in range(2000)))
    with sandbox("--delay-ms", "5") as addresses, started(addresses, path, "--concurrency", 16) as process:
        wait_until(lambda: counters(addresses)["requests"] >= 200)
        set_fault(addresses, None, "status:429+retry-after:1")
        time.sleep(0.3)  # those in flight end
        before = counters(addresses)["requests"]
        time.sleep(2)
        assert 1 <= counters(addresses)["requests"] - before <= 3
        set_fault(addresses, None, "")
        printed, _ = process.communicate(timeout=60)
        assert (process.returncode, json.loads(printed.splitlines()[-1])["ok"]) == (0, 2000)
        assert len(asked(addresses)) == 2000


def test_the_rate(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"user.{each}\n" for each in range(300)))
    for concurrency in (1, 64):
        begun = time.monotonic()
        code, lines, _ = provision(own_sandbox, path, "--rate", 150, "--concurrency", concurrency)
        assert (code, lines[-1]["ok"]) == (0, 300)
        assert lines[-1]["seconds"] > 1.7
        assert time.monotonic() - begun < 20


def terminal(addresses, *arguments, until, keys=b""):
    """What a terminal of 100 columns receives; `keys` are typed once `until` is there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    env = environment(addresses, TERM="xterm-256color")

    # Its own terminal, which turns a typed Ctrl-C into a signal.
    begin = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", begin, *COMMAND, *map(str, arguments)]
    with default_sigint():
        process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    seen += os.read(master, 65536)
                except OSError:  # the other side is closed
                    break
            if keys and until in seen:
                os.write(master, keys)
                keys = b""
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", seen.decode())
    return process.returncode, seen, text


def test_a_terminal_has_a_bar_and_a_table(own_sandbox, tmp_path):
    users = [*(f"fault.delay.100.{each}" for each in range(50)), "a b"]
    code, raw, text = terminal(
        own_sandbox, file_of(tmp_path / "users", "\n".join(users)), "--concurrency", 4, until=b""
    )
    assert code == 1
    assert re.search(r"━+ \d+ ok  \d failed  \d+/s  0:\d\d left", text)
    assert raw.count(b"\x1b[?25l") == raw.count(b"\x1b[?25h") > 0  # the cursor is back
    table = text[text.index("complete, after") :]
    assert [line.split()[:2] for line in table.splitlines() if "OK" in line] == [["OK", "50"]]
    assert re.search(r"INVALID_USER_ID\s+1\s+51\s+Invalid user id", table)


def test_ctrl_c_on_a_terminal(own_sandbox, tmp_path):
    path = file_of(tmp_path / "users", "".join(f"fault.delay.100.{each}\n" for each in range(2000)))
    code, raw, text = terminal(
        own_sandbox, path, "--concurrency", 4, "--resume", tmp_path / "state", until=b" ok ", keys=b"\x03"
    )
    assert code == 130
    assert raw.count(b"\x1b[?25l") == raw.count(b"\x1b[?25h") > 0
    assert "interrupted, after" in text
    assert "Go on with: python" in text
    assert "Traceback" not in text


def test_without_rich_a_terminal_has_lines(own_sandbox, tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError")
    path = file_of(tmp_path / "users", "alice\n")
    env = environment(own_sandbox)
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    master, slave = pty.openpty()
    done = subprocess.run([*COMMAND, path], env=env, stdout=slave, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(slave)
    assert done.returncode == 0
    assert json.loads(os.read(master, 4096))["ok"] == 1
    os.close(master)


def test_without_pyarrow_parquet_says_how_to_get_it(own_sandbox, tmp_path):
    (tmp_path / "pyarrow.py").write_text("raise ImportError")
    env = environment(own_sandbox)
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    code, lines, printed = provision(own_sandbox, file_of(tmp_path / "users.parquet", "x"), env=env)
    assert (code, lines) == (1, [])
    assert printed == "spike_auth: parquet needs pyarrow. Install it: pip install 'spike-auth[arrow]'\n"
