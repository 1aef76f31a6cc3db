"""The auth object for httpx, with both of its clients."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from helpers import async_client_of, client_of, service
from spike_auth.httpx import SpikeAuth


class Sync:
    """Requests through httpx.Client."""

    client_of = staticmethod(client_of)

    @staticmethod
    def send(auth: SpikeAuth, *requests: tuple, **options) -> list[httpx.Response]:
        with httpx.Client(auth=auth, trust_env=False, **options) as http:
            return [http.request(method, url, **more) for method, url, more in requests]

    @staticmethod
    def stream():
        yield b"a"
        yield b"b"


class Async:
    """Requests through httpx.AsyncClient."""

    client_of = staticmethod(async_client_of)

    @staticmethod
    def send(auth: SpikeAuth, *requests: tuple, **options) -> list[httpx.Response]:
        async def main() -> list[httpx.Response]:
            async with auth.client, httpx.AsyncClient(auth=auth, trust_env=False, **options) as http:
                return [await http.request(method, url, **more) for method, url, more in requests]

        return asyncio.run(main())

    @staticmethod
    async def stream():
        yield b"a"
        yield b"b"


@pytest.fixture(params=[Sync, Async])
def way(request):
    return request.param


def tokens_seen(server) -> list[str | None]:
    return [authorization for _, authorization, _ in server.seen]


def test_the_header_is_added(way, own_sandbox):
    with service() as server:
        replies = way.send(SpikeAuth(way.client_of(own_sandbox), "alice"), *[("GET", server.url, {})] * 2)
    assert [reply.status_code for reply in replies] == [200, 200]
    assert len(set(tokens_seen(server))) == 1
    assert tokens_seen(server)[0].startswith("Bearer ey")


@pytest.mark.parametrize("body", [{}, {"content": b"body"}, {"json": {"a": 1}}, {"data": {"a": "1"}}])
def test_a_refused_token_is_replaced_once(way, own_sandbox, body):
    with service(refuses_first=True) as server:
        (reply,) = way.send(SpikeAuth(way.client_of(own_sandbox), "alice"), ("POST", server.url, body))
    assert reply.status_code == 200
    (_, first, sent), (_, second, again) = server.seen
    assert sent == again
    assert bool(sent) is bool(body)
    assert first != second


def test_it_is_tried_once_more_and_no_more(way, own_sandbox):
    with service(refuses_all=True) as server:
        (reply,) = way.send(SpikeAuth(way.client_of(own_sandbox), "alice"), ("GET", server.url, {}))
    assert reply.status_code == 401
    assert len(server.seen) == len(set(tokens_seen(server))) == 2


@pytest.mark.parametrize("kind", ["stream", "files"])
def test_a_body_that_cannot_be_sent_again_is_not(way, own_sandbox, kind):
    body = {"content": way.stream()} if kind == "stream" else {"files": {"upload": b"content"}}
    with service(refuses_first=True) as server:
        auth = SpikeAuth(way.client_of(own_sandbox), "alice")
        refused, next_one = way.send(auth, ("POST", server.url, body), ("GET", server.url, {}))
    assert (refused.status_code, next_one.status_code) == (401, 200)
    assert len(server.seen) == len(set(tokens_seen(server))) == 2


def test_another_host_gets_no_token_not_even_after_a_401(way, own_sandbox):
    with service() as server, service(refuses_all=True) as other:
        server.target = f"{other.url}/elsewhere"
        auth = SpikeAuth(way.client_of(own_sandbox), "alice")
        (reply,) = way.send(auth, ("GET", f"{server.url}/to/other", {}), follow_redirects=True)
    assert reply.status_code == 401
    assert tokens_seen(other) == [None]
    assert len(server.seen) == 1


def test_a_redirect_on_the_same_host_has_the_token(way, own_sandbox):
    with service(refuses_first=True) as server:
        server.target = f"{server.url}/elsewhere"
        auth = SpikeAuth(way.client_of(own_sandbox), "alice")
        (reply,) = way.send(auth, ("GET", f"{server.url}/to/same", {}), follow_redirects=True)
    assert reply.status_code == 200
    assert len(set(tokens_seen(server))) == 2


def test_the_clients_must_fit(sandbox):
    with client_of(sandbox) as client, pytest.raises(TypeError, match="needs a spike_auth.AsyncClient"):
        asyncio.run(_get(SpikeAuth(client, "alice")))
    with pytest.raises(TypeError, match="needs a spike_auth.Client"), httpx.Client(trust_env=False) as http:
        http.get("http://127.0.0.1:1", auth=SpikeAuth(async_client_of(sandbox), "alice"))
    with pytest.raises(TypeError, match="client must be a Client or an AsyncClient of spike_auth, not str"):
        SpikeAuth("client", "alice")


async def _get(auth: SpikeAuth) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get("http://127.0.0.1:1", auth=auth)


def test_it_streams_replies_as_before(sandbox):
    with service() as server, client_of(sandbox) as client, httpx.Client(trust_env=False) as http:
        reply = http.send(http.build_request("GET", server.url), auth=SpikeAuth(client, "alice"), stream=True)
        assert not reply.is_stream_consumed
        reply.close()
