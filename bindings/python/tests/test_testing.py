"""spike_auth.testing: the same answers as the sandbox's, as far as it promises them, and a quick, complete end."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import pytest

from helpers import SOURCE, environment, in_time, python, script, user_of, wait_until
from spike_auth import AsyncClient, Client, NetworkError, RateLimited, Rejected, ServerError, SpikeAuthError, Status
from spike_auth.testing import CONFLICTING, FakeService
from support import project

REQUESTS = json.loads((project.ROOT / "tests" / "vectors" / "requests.json").read_text())["requests"]
FAULTS = json.loads((project.ROOT / "tests" / "vectors" / "faults.json").read_text())
SCRIPTED = [row for kind in ("replies", "good") for row in FAULTS[kind] if "script" in row]
SECRET = "Canary-Key-8d1f3b7e5a9c"


@pytest.fixture
def service():
    with FakeService() as running:
        yield running


def send(base_url: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    try:
        connection.request(method, url.path + path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


# ---- the tables


@pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row["name"])
def test_it_judges_requests_as_the_sandbox_does(sandbox, service, row):
    headers = {"Content-Type": row["content_type"]} if row["content_type"] else {}
    for base_url in (sandbox["http"], service.base_url):
        sent = row["body"].encode() + b" " * row.get("blanks", 0)
        status, body = send(base_url, row["method"], row["path"], sent, headers)
        assert status == row["status"], base_url
        assert json.loads(body).keys() >= ({"access_token"} if status == 200 else {"title", "status", "detail"})


def test_the_table_has_enough_scripts():
    assert len(SCRIPTED) > 45
    keys = {key for row in SCRIPTED for key in row["script"]}
    assert keys == {"status", "body", "retry_after", "delay", "drop"}


@pytest.mark.parametrize("row", SCRIPTED, ids=lambda row: row["fault"])
def test_what_is_scripted_becomes_the_status_of_the_shared_table(service, row):
    service.respond(**row["script"])
    with service.client(max_attempts=1, timeout=1) as client:
        if "status" not in row:
            assert user_of(client.exchange("alice")) == "alice"
            return
        with pytest.raises(SpikeAuthError) as caught:
            client.exchange("alice")
    error = caught.value
    told = None if row["retry_after_ms"] < 0 else row["retry_after_ms"] / 1000
    assert (error.status.name, error.http_status or 0) == (row["status"], row["http_status"])
    assert (error.retryable, error.retry_after) == (row["retryable"], told)
    assert service.requests == 1


# ---- the script


def statuses(client: Client, users: list[str]) -> list[int]:
    found = []
    for user in users:
        try:
            client.exchange(user)
            found.append(200)
        except SpikeAuthError as error:
            found.append(error.http_status)
    return found


def test_answers_for_some_requests_come_in_their_order_and_a_users_own_come_first(service):
    service.respond(500)
    service.respond(502, times=2)
    service.respond(504, times=1)
    service.respond(403, user="alice", times=1)
    service.respond(409, user="bob")
    with service.client(max_attempts=1) as client:
        users = ["alice", "alice", "bob", "carol", "carol", "carol", "alice", "bob"]
        assert statuses(client, users) == [403, 502, 409, 502, 504, 500, 500, 409]
        service.respond(user="bob")
        assert statuses(client, ["bob", "carol"]) == [200, 500]
        service.respond()
        assert statuses(client, ["bob", "carol"]) == [200, 200]
    assert (service.requests, service.requests_for("carol"), service.requests_for("nobody")) == (12, 5, 0)
    service.respond(500)
    service.reset()
    assert (service.requests, service.requests_for("carol"), service.token("carol")) == (0, 0, None)
    with service.client(max_attempts=1) as client:
        assert statuses(client, ["carol"]) == [200]


def test_a_retry_after_is_told_as_seconds_and_as_a_date(service):
    service.respond(429, retry_after=7, times=1)
    service.respond(503, retry_after=datetime.now(timezone(timedelta(hours=5))) + timedelta(seconds=60), times=1)
    for family, least, most in ((RateLimited, 7, 7), (ServerError, 55, 61)):
        with service.client(max_attempts=1) as client, pytest.raises(family) as caught:
            client.token("alice")
        assert least <= caught.value.retry_after <= most


def test_what_makes_no_sense_is_refused(service):
    for arguments in ({"status": 199}, {"status": 600}, {"times": 0}, {"delay": -1}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            service.respond(**arguments)
    assert statuses(service.client(), ["alice"]) == [200]


# ---- tokens, the key, and clients


def test_a_token_is_the_same_each_time_unless_fresh_ones_are_asked_for():
    for fresh in (False, True):
        with FakeService("not-a-number", fresh_tokens=fresh) as service, service.client() as client:
            tokens = [client.exchange("alice") for _ in range(3)]
            assert len({*tokens}) == (3 if fresh else 1)
            assert (service.token("alice"), service.token("bob")) == (tokens[-1], None)


@pytest.mark.parametrize(("lifetime", "requests"), [(None, 1), (3600, 1), (-5, 2)])
def test_a_token_lives_as_long_as_it_says(lifetime, requests):
    with FakeService(token_lifetime=lifetime) as service, service.client() as client:
        for _ in range(2):
            client.token("alice")
        assert service.requests == requests


def test_another_key_gets_a_401_until_the_client_has_it(service):
    with service.client(max_attempts=1) as client:
        service.hmac_key = "another key, as after a rotation"
        with pytest.raises(Rejected) as caught:
            client.token("alice")
        assert caught.value.status is Status.UNAUTHORIZED
        client.set_hmac_key(service.hmac_key)
        assert client.token("alice") == service.token("alice")


async def test_the_settings_fit_an_async_client(service):
    async with AsyncClient(**service.settings) as client:
        assert await client.token("alice") == service.token("alice")


def test_the_environment_leads_to_it(service):
    program = "import spike_auth\nwith spike_auth.Client.from_env() as client:\n    print(client.token('alice'))"
    assert script(program, {**environment(), **service.env}).strip() == service.token("alice")


def test_a_crowd_is_served(service):
    with service.client(max_concurrency=256, cache_capacity=0) as client, ThreadPoolExecutor(200) as pool:
        users = [f"user-{number}" for number in range(200)]
        assert [*map(user_of, pool.map(client.exchange, users))] == users
    assert service.requests == 200


# ---- the end


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]


def test_the_end_is_quick_and_leaves_nothing():
    before = threads()

    def measure() -> float:
        service = FakeService()
        service.respond(delay=600, user="slow")
        with service.client() as client, ThreadPoolExecutor(1) as pool:
            client.token("alice")  # leaves a connection that is kept
            slow = pool.submit(client.exchange, "slow")
            wait_until(lambda: service.requests == 2)
            with socket.create_connection(("127.0.0.1", urlsplit(service.base_url).port)):  # says nothing
                start = time.monotonic()
                service.close()
                took = time.monotonic() - start
            with pytest.raises(NetworkError):
                slow.result(30)
            service.close()
            with pytest.raises(NetworkError):
                client.exchange("alice")
        return took

    in_time(0.5, measure)
    wait_until(lambda: threads() == before)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_end_its_parents_service(service):
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(service.base_url).port, timeout=10)
    for expected in (1, 2):
        connection.request("GET", "/v3/auth/hmac")
        assert connection.getresponse().read()
        assert service.requests == expected
        if (child := os.fork()) == 0:
            service.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        connection.auto_open = 0  # another connection would be an error
    connection.close()


def test_without_a_free_descriptor_it_waits_and_then_goes_on():
    program = """
import os, resource, socket, time
from spike_auth.testing import FakeService
with FakeService() as service:
    client = service.client()
    with socket.socket() as stream:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (stream.fileno() + 1, most[1]))
        stream.connect(("127.0.0.1", int(service.base_url.split(":")[2].split("/")[0])))
        before = time.process_time()
        time.sleep(1)
        print(time.process_time() - before < 0.5)
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    print(client.token("alice") == service.token("alice"))
"""
    assert script(program, environment()).split() == ["True", "True"]


# ---- what is shown


@pytest.mark.parametrize(
    "sent", [b"", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"A" * 70_000, b"POST / HTTP/1.1\r\n"]
)
def test_what_is_not_http_ends_only_its_connection(service, capfd, sent):
    with socket.create_connection(("127.0.0.1", urlsplit(service.base_url).port), 10) as stream:
        stream.sendall(sent)
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(65536):
            pass
    assert statuses(service.client(), ["alice"]) == [200]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "9" * 30, "10\r\nTransfer-Encoding: chunked"])
def test_a_body_without_a_plain_length_ends_its_connection(service, capfd, length):
    with socket.create_connection(("127.0.0.1", urlsplit(service.base_url).port), 10) as stream:
        stream.sendall(f"POST /v3/auth/hmac HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
        assert stream.recv(100) == b""
    assert capfd.readouterr() == ("", "")


def test_nothing_that_it_says_holds_a_secret(capfd):
    user = "canary-user-5e7d9c1b3a"
    with FakeService(hmac_key=SECRET) as service, service.client() as client:
        token, signature = client.token(user), client.sign(user)
        said = [repr(service), str(service)]
        for row in REQUESTS:
            body = row["body"].replace("user1", user)
            body = re.sub("[0-9a-f]{64}", signature if row["status"] != 401 else "0" * 64, body).encode()
            status, answer = send(
                service.base_url, row["method"], row["path"], body, {"Content-Type": row["content_type"]}
            )
            said += [answer.decode()] if status != 200 else []
        said += capfd.readouterr()
    for secret in (SECRET, user, token, signature):
        assert not [text for text in said if secret in text]


# ---- the plug-in


def test_importing_it_needs_neither_the_library_nor_pytest(tmp_path):
    env = environment(SPIKE_AUTH_LIBRARY=str(tmp_path / "absent"))
    program = (
        "import sys\nfrom spike_auth.testing import FakeService\nwith FakeService() as service: print(service.env)\n"
        "assert 'pytest' not in sys.modules and 'spike_auth._library' not in sys.modules"
    )
    assert "SPIKE_HMAC_KEY" in script(program, env)


@pytest.fixture
def installed(tmp_path):
    """A folder that tells pytest of the plug-in, as an installed package does."""
    tables = (SOURCE.parent / "pyproject.toml").read_text().partition("\n[project.entry-points.pytest11]\n")[2]
    entry = re.match(r"[\w-]+ = .*\n", tables)[0].replace('"', "")
    info = tmp_path / "site" / "spike_auth-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spike-auth\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{entry}")
    (info / "RECORD").write_text("spike_auth/__init__.py,,\npytest_spike_auth.py,,\n")
    return os.pathsep.join([str(info.parent), str(SOURCE)])


def test_the_fixture_is_there_in_every_test_and_its_environment_ends_with_it(tmp_path, installed):
    (tmp_path / "test_user.py").write_text("""
import os
import spike_auth

def test_first(spike_auth_service):
    with spike_auth.Client.from_env() as client:
        assert client.token("alice") == spike_auth_service.token("alice")
        assert spike_auth_service.requests == 1

def test_second(spike_auth_service):
    assert spike_auth_service.requests == 0

def test_third():
    assert os.environ["SPIKE_STORE_URL"] == os.environ["SPIKE_HMAC_KEY_FILE"] == "/nowhere"
    assert "SPIKE_HMAC_KEY" not in os.environ
""")
    env = environment(PYTHONPATH=installed, **dict.fromkeys(CONFLICTING, "/nowhere"))
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path, env=env)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_plug_in_costs_a_user_of_pytest_nothing(tmp_path, installed):
    (tmp_path / "test_user.py").write_text("""
import sys

def test_it():
    assert "pytest_spike_auth" in sys.modules
    assert not [name for name in sys.modules if name.split(".")[0] == "spike_auth"]
""")
    env = environment(PYTHONPATH=installed)
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path, env=env)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
