"""The auth object for requests, against a service that takes tokens."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from helpers import async_client_of, client_of, service
from spike_auth import InvalidInput, Rejected
from spike_auth.requests import SpikeAuth


@pytest.fixture
def session():
    with requests.Session() as made:
        made.trust_env = False
        yield made


def tokens_seen(server) -> list[str | None]:
    return [authorization for _, authorization, _ in server.seen]


def test_the_header_is_added(session, client):
    with service() as server:
        for _ in range(2):
            assert session.get(server.url, auth=SpikeAuth(client, "alice")).status_code == 200
    assert tokens_seen(server) == [client.authorization("alice")] * 2
    assert client.stats().exchanges == 1


def test_a_refused_token_is_replaced_once(session, own_client):
    with service(refuses_first=True) as server:
        first = own_client.authorization("alice")
        reply = session.post(server.url, data=b"body", auth=SpikeAuth(own_client, "alice"))
        second = own_client.authorization("alice")
        assert reply.status_code == 200
        assert [past.status_code for past in reply.history] == [401]
    assert server.seen == [("/", first, b"body"), ("/", second, b"body")]
    assert first != second
    assert own_client.stats().invalidations == 1


def test_it_is_tried_once_more_and_no_more(session, own_client):
    with service(refuses_all=True) as server:
        reply = session.get(server.url, auth=SpikeAuth(own_client, "alice"))
        assert reply.status_code == 401
        assert len(server.seen) == len(set(tokens_seen(server))) == 2
        # The second token was not reported, so there is one for the next request, which reports it.
        with pytest.raises(Rejected):
            session.get(server.url, auth=SpikeAuth(own_client, "alice"))


@pytest.mark.parametrize("kind", ["text", "json", "form", "file", "bytes"])
def test_bodies_that_are_sent_again(session, own_client, kind, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"skipped content of a file")
    with path.open("rb") as file, service(refuses_first=True) as server:
        file.seek(8)
        body = {
            "text": {"data": "text"},
            "json": {"json": {"a": 1}},
            "form": {"data": {"a": "1"}},
            "file": {"data": file},
            "bytes": {"data": io.BytesIO(b"bytes")},
        }[kind]
        assert session.post(server.url, auth=SpikeAuth(own_client, "alice"), **body).status_code == 200
    bodies = [body for _, _, body in server.seen]
    assert bodies[0] == bodies[1] != b""
    assert kind != "file" or bodies[0] == b"content of a file"


def test_a_body_that_cannot_be_sent_again_is_not(session, own_client):
    with service(refuses_first=True) as server:
        first = own_client.authorization("alice")
        reply = session.post(server.url, data=iter([b"a", b"b"]), auth=SpikeAuth(own_client, "alice"))
        assert reply.status_code == 401
        assert server.seen == [("/", first, b"ab")]
        # The next request has another token.
        assert session.get(server.url, auth=SpikeAuth(own_client, "alice")).status_code == 200
    assert own_client.stats().invalidations == 1


def test_other_statuses_are_left_alone(session, own_client):
    with service() as server, service() as other:
        server.target = f"{other.url}/elsewhere"
        reply = session.get(f"{server.url}/to/other", auth=SpikeAuth(own_client, "alice"), allow_redirects=False)
        assert reply.status_code == 307
    assert own_client.stats().invalidations == 0


def test_another_host_gets_no_token_not_even_after_a_401(session, own_client):
    with service() as server, service(refuses_all=True) as other:
        for name in ("127.0.0.1", "localhost"):
            server.target = f"{other.url.replace('127.0.0.1', name)}/elsewhere"
            reply = session.get(f"{server.url}/to/other", auth=SpikeAuth(own_client, "alice"))
            assert reply.status_code == 401
        assert tokens_seen(other) == [None, None]
        assert len(server.seen) == 2
    assert own_client.stats().invalidations == 0


def test_a_redirect_on_the_same_host_has_the_token(session, own_client):
    with service(refuses_first=True) as server:
        server.target = f"{server.url}/elsewhere"
        reply = session.get(f"{server.url}/to/same", auth=SpikeAuth(own_client, "alice"))
        assert reply.status_code == 200
    paths = [path for path, _, _ in server.seen]
    assert paths == ["/to/same", "/elsewhere", "/elsewhere"]
    assert len(set(tokens_seen(server))) == 2


def test_a_redirect_after_the_second_try_has_the_new_token(session, own_client):
    with service(refuses_first=True, judges_redirects=True) as server:
        server.target = f"{server.url}/elsewhere"
        assert session.get(f"{server.url}/to/same", auth=SpikeAuth(own_client, "alice")).status_code == 200
    assert [path for path, _, _ in server.seen] == ["/to/same", "/to/same", "/elsewhere"]
    first, *others = tokens_seen(server)
    assert others == [own_client.authorization("alice")] * 2
    assert first not in others


def test_the_connection_is_used_again(session, own_client):
    with service(refuses_first=True) as server:
        session.get(server.url, auth=SpikeAuth(own_client, "alice"))
        assert (len(server.seen), server.connections) == (2, 1)


def test_one_auth_object_in_many_threads(own_client):
    auth = SpikeAuth(own_client, "alice")
    with service(refuses_first=True) as server, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: requests.get(server.url, auth=auth, timeout=10), range(40)))
        assert {reply.status_code for reply in replies} == {200}
    assert own_client.stats().exchanges == 2


def test_what_fails_says_so(session, client, sandbox):
    with pytest.raises(InvalidInput):
        session.get("http://127.0.0.1:1", auth=SpikeAuth(client, "a b"))
    with pytest.raises(TypeError, match="client must be a spike_auth.Client, not AsyncClient"):
        SpikeAuth(async_client_of(sandbox), "alice")
    with client_of(sandbox) as closed:
        auth = SpikeAuth(closed, "alice")
    with pytest.raises(Exception, match="was closed"):
        session.get("http://127.0.0.1:1", auth=auth)


def test_a_response_can_be_pickled_and_shows_no_token_but_in_its_header(session, client):
    with service() as server:
        reply = session.get(server.url, auth=SpikeAuth(client, "alice"))
    token = client.token("alice")
    assert token not in repr(reply.request.hooks)
    again = pickle.loads(pickle.dumps(reply))
    assert (again.status_code, token in repr(again.request.hooks)) == (200, False)
    assert again.request.hooks["response"][0](again) is again
