"""The auth objects for requests, httpx and aiohttp, with a service that accepts tokens."""

from __future__ import annotations

import asyncio
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import pytest
import requests

from helpers import Service, async_client_of, client_of
from spike_auth import InvalidInput, Rejected
from spike_auth.aiohttp import SpikeAuth as AiohttpAuth
from spike_auth.httpx import SpikeAuth as HttpxAuth
from spike_auth.requests import SpikeAuth as RequestsAuth


class Requests:
    auth_of, client_of = RequestsAuth, staticmethod(client_of)

    @staticmethod
    def send(auth: RequestsAuth, *sent: tuple) -> list[int]:
        with requests.Session() as session:
            session.trust_env = False
            return [session.request(method, url, auth=auth, **more).status_code for method, url, more in sent]

    @staticmethod
    def stream():
        return iter([b"a", b"b"])


class HttpxSync:
    auth_of, client_of, stream = HttpxAuth, staticmethod(client_of), Requests.stream

    @staticmethod
    def send(auth: HttpxAuth, *sent: tuple) -> list[int]:
        with httpx.Client(auth=auth, trust_env=False, follow_redirects=True) as http:
            return [http.request(method, url, **httpx_body(more)).status_code for method, url, more in sent]


class HttpxAsync:
    auth_of, client_of = HttpxAuth, staticmethod(async_client_of)

    @staticmethod
    def send(auth: HttpxAuth, *sent: tuple) -> list[int]:
        async def main() -> list[int]:
            async with auth.client, httpx.AsyncClient(auth=auth, trust_env=False, follow_redirects=True) as http:
                replies = [await http.request(method, url, **httpx_body(more)) for method, url, more in sent]
                return [reply.status_code for reply in replies]

        return asyncio.run(main())

    @staticmethod
    async def stream():
        yield b"a"
        yield b"b"


class Aiohttp:
    auth_of, client_of, stream = AiohttpAuth, staticmethod(async_client_of), HttpxAsync.stream

    @staticmethod
    def send(auth: AiohttpAuth, *sent: tuple) -> list[int]:
        async def main() -> list[int]:
            async with auth.client, aiohttp.ClientSession(middlewares=[auth]) as http:
                replies = [await http.request(method, url, **aiohttp_body(more)) for method, url, more in sent]
                return [reply.status for reply in replies]

        return asyncio.run(main())


def httpx_body(body: dict) -> dict:
    """`data` is for forms only in httpx."""
    raw = "data" in body and not isinstance(body["data"], dict)
    return {"content": body["data"]} if raw else body


def aiohttp_body(body: dict) -> dict:
    form = aiohttp.FormData()
    for name, content in body.get("files", {}).items():
        form.add_field(name, io.BytesIO(content), filename=name)
    return {"data": form} if "files" in body else body


@pytest.fixture(params=[Requests, HttpxSync, HttpxAsync, Aiohttp])
def way(request):
    return request.param


@pytest.fixture
def auth(way, own_sandbox):
    return way.auth_of(way.client_of(own_sandbox), "alice")


def test_the_header_is_added(way, auth):
    with Service() as service:
        assert way.send(auth, *[("GET", service.url, {})] * 2) == [200, 200]
    assert len(set(service.authorizations)) == 1
    assert service.authorizations[0].startswith("Bearer ey")


@pytest.mark.parametrize("body", [{}, {"data": b"body"}, {"json": {"a": 1}}, {"data": {"a": "1"}}])
def test_a_refused_token_is_replaced_once(way, auth, body):
    with Service(refuses_first=True) as service:
        assert way.send(auth, ("POST", service.url, body)) == [200]
    (_, first, sent), (_, second, again) = service.requests
    assert sent == again
    assert bool(sent) is bool(body)
    assert first != second
    assert len(service.connections) == 1


def test_a_second_401_is_returned(way, auth):
    with Service(refuses_all=True) as service:
        assert way.send(auth, ("GET", service.url, {})) == [401]
    assert len(service.requests) == len(set(service.authorizations)) == 2


@pytest.mark.parametrize("kind", ["stream", "files"])
def test_a_body_that_cannot_be_sent_again_is_not_sent_again(way, auth, kind):
    is_in_memory = (way, kind) == (Requests, "files")
    body = {"data": way.stream()} if kind == "stream" else {"files": {"upload": b"content"}}
    with Service(refuses_first=True) as service:
        assert way.send(auth, ("POST", service.url, body), ("GET", service.url, {})) == [
            200 if is_in_memory else 401,
            200,
        ]
    assert len(service.requests) == (3 if is_in_memory else 2)
    assert len(set(service.authorizations)) == 2


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_another_host_receives_no_token_even_after_its_401(way, auth, name):
    with Service() as service, Service(refuses_all=True) as other:
        service.target = f"{other.url.replace('127.0.0.1', name)}/elsewhere"
        assert way.send(auth, ("GET", f"{service.url}/to/other", {})) == [401]
    assert other.authorizations == [None]
    assert len(service.requests) == 1
    assert auth.client._handle is None or auth.client.stats().invalidations == 0


def test_a_redirect_on_the_same_host_has_the_token(way, auth):
    with Service(refuses_first=True) as service:
        service.target = f"{service.url}/elsewhere"
        assert way.send(auth, ("GET", f"{service.url}/to/same", {})) == [200]
    assert len(set(service.authorizations)) == 2


# ---- aiohttp


def test_a_middleware_of_aiohttp_serves_the_origin_of_its_first_request(own_sandbox):
    auth = AiohttpAuth(async_client_of(own_sandbox), "alice")
    with Service() as service, Service() as other:
        assert Aiohttp.send(auth, ("GET", service.url, {}), ("GET", other.url, {})) == [200, 401]
    assert other.authorizations == [None]


# ---- requests


def test_a_redirect_after_the_retry_has_the_new_token(own_client):
    with Service(refuses_first=True, checks_redirects=True) as service:
        service.target = f"{service.url}/elsewhere"
        assert Requests.send(RequestsAuth(own_client, "alice"), ("GET", f"{service.url}/to/same", {})) == [200]
    assert [path for path, _, _ in service.requests] == ["/to/same", "/to/same", "/elsewhere"]
    first, *others = service.authorizations
    assert others == [own_client.authorization("alice")] * 2
    assert first not in others


@pytest.mark.parametrize("kind", ["file", "bytes"])
def test_a_file_is_rewound_to_where_it_was(own_client, kind, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"skipped content")
    with path.open("rb") as file, Service(refuses_first=True) as service:
        body = file if kind == "file" else io.BytesIO(b"skipped content")
        body.seek(8)
        assert Requests.send(RequestsAuth(own_client, "alice"), ("POST", service.url, {"data": body})) == [200]
    assert [body for _, _, body in service.requests] == [b"content"] * 2


def test_the_refused_reply_is_in_the_history_and_the_second_refusal_is_reported_later(own_client):
    auth = RequestsAuth(own_client, "alice")
    with Service(refuses_all=True) as service:
        reply = requests.get(service.url, auth=auth, timeout=10)
        assert [past.status_code for past in reply.history] == [401]
        # The second token was not reported. The next request uses and reports it.
        with pytest.raises(Rejected):
            requests.get(service.url, auth=auth, timeout=10)


def test_threads_share_an_auth_object(own_client):
    auth = RequestsAuth(own_client, "alice")
    with Service(refuses_first=True) as service, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: requests.get(service.url, auth=auth, timeout=10), range(40)))
    assert {reply.status_code for reply in replies} == {200}
    assert own_client.stats().exchanges == 2


def test_a_response_can_be_pickled_and_shows_no_token_outside_its_header(client):
    with Service() as service:
        reply = requests.get(service.url, auth=RequestsAuth(client, "alice"), timeout=10)
    token = client.token("alice")
    assert token not in repr(reply.request.hooks)
    again = pickle.loads(pickle.dumps(reply))
    assert (again.status_code, token in repr(again.request.hooks)) == (200, False)
    assert again.request.hooks["response"][0](again) is again


# ---- errors


def test_errors_are_those_of_the_client(client, sandbox):
    nowhere = "http://127.0.0.1:1"
    with pytest.raises(InvalidInput):
        requests.get(nowhere, auth=RequestsAuth(client, "a b"), timeout=10)
    with pytest.raises(TypeError, match=r"client must be a spike_auth\.Client, not AsyncClient"):
        RequestsAuth(async_client_of(sandbox), "alice")
    with pytest.raises(TypeError, match="client must be a Client or an AsyncClient of spike_auth, not str"):
        HttpxAuth("client", "alice")
    with pytest.raises(TypeError, match=r"client must be a spike_auth\.AsyncClient, not Client"):
        AiohttpAuth(client, "alice")
    with pytest.raises(InvalidInput):
        Aiohttp.send(AiohttpAuth(async_client_of(sandbox), "a b"), ("GET", nowhere, {}))
    with pytest.raises(TypeError, match=r"needs a spike_auth\.Client"):
        HttpxSync.send(HttpxAuth(async_client_of(sandbox), "alice"), ("GET", nowhere, {}))

    async def get() -> None:
        async with httpx.AsyncClient(auth=HttpxAuth(client, "alice"), trust_env=False) as http:
            await http.get(nowhere)

    with pytest.raises(TypeError, match=r"needs a spike_auth\.AsyncClient"):
        asyncio.run(get())


def test_httpx_still_streams_replies(client):
    with Service() as service, httpx.Client(trust_env=False) as http:
        reply = http.send(http.build_request("GET", service.url), auth=HttpxAuth(client, "alice"), stream=True)
        assert not reply.is_stream_consumed
        reply.close()
