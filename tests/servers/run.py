#!/usr/bin/env python3
"""Runs the Python binding in real servers: those of docs/servers.md, by the commands that stand there, and programs
with greenlets or PID namespaces.

    run.py [NAME...]

With names, only the tests whose name contains one of them. The last line is `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from python import Interpreter, environment, interpreters  # noqa: E402
from servers.processes import Failed, Running, Skipped, expect, running  # noqa: E402
from support.project import ROOT, SHARED, clean_env, counters, sandbox, settings  # noqa: E402
from support.store import store  # noqa: E402

PAGE = (ROOT / "docs" / "servers.md").read_text()
MODULES = Path("/usr/lib/apache2/modules")
PROCESSES = 2
USERS = [f"user-{number}" for number in range(200)]
# Of all requests of a test; the slowest server needs three seconds.
ANSWER_SECONDS = 25
# Asked when the server is stopped.
LATE = "fault.delay.1000"
ERRORS = r"Traceback|Fatal Python|\b(?:ERROR|CRITICAL)\b|Exception|exit signal|DAMN|not the last thread"


# ---- requests


def user_of(token: str) -> str:
    """The user that a token of the sandbox names."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]


async def get(port: int, user: str) -> dict:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /?{user} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    expect(b" 200 " in head.partition(b"\r\n")[0], "the answer for", user, "is", head + body)
    return json.loads(body)


def over_http(port: int, users: list[str]) -> list[dict]:
    async def all_at_once() -> list[dict]:
        return await asyncio.wait_for(asyncio.gather(*(get(port, user) for user in users)), ANSWER_SECONDS)

    try:
        return asyncio.run(all_at_once())
    except asyncio.TimeoutError:
        raise Failed(f"not all of {len(users)} requests were answered in {ANSWER_SECONDS} s") from None
    except OSError as error:
        raise Failed(f"a connection failed: {error}") from None


def over_redis(python: Path, env: dict[str, str], users: list[str]) -> list[dict]:
    done = subprocess.run([python, HERE / "produce.py"], input=json.dumps(users), env=env, text=True,
                          capture_output=True, timeout=75, check=False)
    expect(done.returncode == 0, "not all tasks have a result:\n", done.stderr)
    return json.loads(done.stdout)


Ask = Callable[[list[str]], list[dict]]


def use(ask: Ask, addresses: dict, loads_once: bool) -> None:
    """200 users at once, each twice: each reply has the token of its user, and no process made two exchanges for one."""
    users = ["loader", *USERS] * 2
    tokens, processes = {}, {}
    for user, reply in zip(users, ask(users), strict=True):
        expect(user_of(reply["token"]) == user, user, "got a token of", user_of(reply["token"]))
        expect(tokens.setdefault(user, reply["token"]) == reply["token"], user, "got two tokens")
        processes.setdefault(user, set()).add(reply["process"])
    exchanges = counters(addresses)["users"]
    loads = exchanges.pop("loader")
    expect(loads == 1 if loads_once else loads <= PROCESSES, loads, "exchanges while loading")
    expected = {user: len(processes[user]) for user in USERS}
    expect(exchanges == expected, "exchanges for each user:", exchanges, "\nprocesses:", expected)


def stop(server: Running, ask: Ask, addresses: dict, number: int, finishes: bool) -> None:
    """While a call waits. A server that finishes its requests also answers this one."""
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ask, [LATE])
        deadline = time.monotonic() + ANSWER_SECONDS
        while counters(addresses)["in_flight"] == 0:
            expect(time.monotonic() < deadline and not late.done(), "no exchange for", LATE)
            time.sleep(0.01)
        server.stop(number)
        if finishes:
            expect(user_of(late.result()[0]["token"]) == LATE, "the last reply is of another user")
    found = re.search(f".*(?:{ERRORS}).*", server.said)
    expect(found is None, "it reports an error:", found and found[0])


# ---- the tests


def site(folder: Path) -> Path:
    """The application, the package and its library, where every user can read them."""
    shutil.copytree(HERE / "site", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "bindings" / "python" / "src", folder, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(SHARED, folder / "spike_auth")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def env_of(folder: Path, addresses: dict, **more: str) -> dict[str, str]:
    variables = settings(addresses)
    del variables["SPIKE_CA_FILE"]  # Apache's user may not read it; nothing uses TLS here
    # gunicorn's control socket is below HOME.
    return clean_env(HOME=str(folder), PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1",
                     **variables, **more)


def run_server(python: Path, line: str, folder: Path) -> None:
    name, *arguments = shlex.split(line.replace("8000", "0"))
    with sandbox("--delay-ms", "10") as addresses:
        env = env_of(folder, addresses)
        with running([python.parent / name, *arguments], folder, env) as server:
            ask = partial(over_http, int(server.wait_for(r"127\.0\.0\.1:([1-9]\d*)")[1]))
            use(ask, addresses, loads_once="--preload" in line or not re.search("--workers|--lazy-apps", line))
            stop(server, ask, addresses, signal.SIGTERM, finishes=name != "uwsgi")


def run_celery(python: Path, line: str, folder: Path) -> None:
    need("redis-server", "redis-server")
    name, *arguments = shlex.split(line)
    with sandbox("--delay-ms", "10") as addresses, store("redis") as broker:
        url = f"redis+socket://{broker.socket}"
        env = env_of(folder, addresses, CELERY_BROKER_URL=url, CELERY_RESULT_BACKEND=url)
        with running([python.parent / name, *arguments], folder, env) as server:
            server.wait_for(r"celery@\S+ ready")
            ask = partial(over_redis, python, env)
            use(ask, addresses, loads_once=True)
            stop(server, ask, addresses, signal.SIGTERM, finishes=True)


# Each process of Apache handles one request at a time. With mod_wsgi 4.9 in them, those with threads do not end.
APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
WSGISocketPrefix {folder}/wsgi
ErrorLog /dev/stderr
LogLevel wsgi:info
User www-data
Group www-data
DefaultRuntimeDir {folder}
StartServers 2
MaxRequestWorkers 2
LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
{lines}
<Directory {folder}>
    Require all granted
</Directory>
"""


def apache_lines(is_daemon: bool, folder: Path) -> str:
    lines = re.search(r"^```apache\n(.*?)^```", PAGE, re.S | re.M)[1].replace("/srv/site", str(folder))
    return lines if is_daemon else f"WSGIPythonPath {folder}\n{lines.splitlines()[2]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def run_apache(is_daemon: bool, folder: Path) -> None:
    need("apache2", "apache2-bin")
    if not (MODULES / "mod_wsgi.so").exists():
        raise Skipped("mod_wsgi is not installed (install with: apt-get install libapache2-mod-wsgi-py3)")
    for tries_left in (2, 1, 0):
        try:
            return use_apache(is_daemon, folder)
        except Failed as failure:  # another process may have taken the port
            if not tries_left or "could not bind" not in str(failure):
                raise


def use_apache(is_daemon: bool, folder: Path) -> None:
    port, config = free_port(), folder / "apache.conf"
    config.write_text(APACHE.format(folder=folder, port=port, modules=MODULES, lines=apache_lines(is_daemon, folder)))
    with sandbox("--delay-ms", "10") as addresses:
        with running(["apache2", "-D", "FOREGROUND", "-f", config], folder, env_of(folder, addresses)) as server:
            server.wait_for("resuming normal operations")
            ask = partial(over_http, port)
            use(ask, addresses, loads_once=False)
            stop(server, ask, addresses, signal.SIGWINCH, finishes=True)
            expect(server.said.count("End interpreter 'localhost|'") == PROCESSES, "not each subinterpreter was ended")
            # Daemons with threads do not come so far with mod_wsgi 4.9, whatever the application does.
            expect(is_daemon or server.said.count("Python has shutdown") == PROCESSES, "not each Python was ended")


GREENLETS = """\
a call in the main greenlet
a program ends
others run while the main greenlet waits
others run while a greenlet waits
others run while a greenlet logs
1000 at once
1000 at once for one user
greenlets killed at any moment
a fork in a greenlet
signal handlers that call a client
a signal after calls
a signal ends a call
"""


def run_program(command: list[object], expected: str, folder: Path) -> None:
    with sandbox("--delay-ms", "10") as addresses:
        with running(command, folder, env_of(folder, addresses)) as program:
            try:
                code = program.process.wait(ANSWER_SECONDS)
            except subprocess.TimeoutExpired:
                raise Failed(f"it still ran after {ANSWER_SECONDS} s") from None
            expect((code, program.said) == (0, expected), "exit code", code)


NAMESPACES = """\
process 1: 1 and 1 misses
process 1: 1 and 1 misses
process 1: 1 and 1 misses
"""


def run_namespaces(python: Path, folder: Path) -> None:
    unshare = [need("unshare", "util-linux"), "--user", "--map-root-user", "--pid", "--fork"]
    done = subprocess.run([*unshare, "true"], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Skipped(f"no PID namespace can be made here ({done.stderr.strip()})")
    run_program([*unshare, python, HERE / "namespaces.py"], NAMESPACES, folder)


def need(tool: str, package: str) -> str:
    path = shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        raise Skipped(f"{tool} is not installed (install with: apt-get install {package})")
    return path


@dataclass(frozen=True)
class Task:
    name: str
    run: Callable[[Path], None]


def tasks(python: Path) -> list[Task]:
    rows = re.findall(r"^\| (.*) \| `(.*)` \|$", PAGE, re.M)
    assert rows, "the table of docs/servers.md is not found"
    return [
        *(Task(title, partial(run_celery if line.startswith("celery") else run_server, python, line))
          for title, line in rows),
        Task("mod_wsgi, daemon", partial(run_apache, True)),
        Task("mod_wsgi, embedded", partial(run_apache, False)),
        *(Task(f"{library}, patched {how}",
               partial(run_program, [python, HERE / "greenlets.py", library, *how.split()], GREENLETS))
          for library in ("gevent", "eventlet")
          for how in ("before the import", "after the import", "without select")),
        Task("gevent, patched without thread",  # in eventlet a fork then prints an error of its own
             partial(run_program, [python, HERE / "greenlets.py", "gevent", "without", "thread"], GREENLETS)),
        Task("nested PID namespaces", partial(run_namespaces, python)),
    ]


def perform(task: Task) -> str:
    start = time.monotonic()
    outcome, text = "ok", ""
    try:
        with tempfile.TemporaryDirectory(prefix="spike_auth-") as folder:
            task.run(site(Path(folder)))
    except Skipped as reason:
        outcome, text = "SKIPPED", f": {reason}"
    except Exception as failure:  # the other tests still run
        outcome, text = "FAILED", f": {failure if isinstance(failure, Failed) else traceback.format_exc()}"
    print(f"{outcome:<8}{task.name} ({time.monotonic() - start:.1f} s){text}", flush=True)
    return outcome


def newest() -> Interpreter | None:
    """The newest CPython with headers. Free-threaded builds are left out: gevent has no wheel for them."""
    for interpreter in reversed(interpreters().values()):
        if interpreter.missing or interpreter.series.endswith("t"):
            continue
        ask = "import sysconfig; print(sysconfig.get_path('include'))"
        include = subprocess.run([interpreter.path, "-Ic", ask], text=True, stdout=subprocess.PIPE, check=True).stdout
        if (Path(include.strip()) / "Python.h").exists():
            return interpreter
    return None


def main() -> int:
    interpreter = newest()
    if interpreter is None:
        print("SKIPPED: no CPython has headers for uWSGI (install them with: apt-get install python3-dev)")
        print("0 passed, 0 failed, 1 skipped")
        return 1 if os.environ.get("CI") else 0
    print("With", interpreter.name, flush=True)
    python = environment("servers", interpreter.path, HERE / "requirements.txt")
    chosen = [task for task in tasks(python) if not sys.argv[1:] or any(part in task.name for part in sys.argv[1:])]
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(perform, chosen))
    passed, failed, skipped = map(outcomes.count, ("ok", "FAILED", "SKIPPED"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not outcomes or (skipped and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())
