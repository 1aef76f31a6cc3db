"""Authentication for httpx: ``httpx.get(url, auth=SpikeAuth(client, user_id))``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx

from ._async import AsyncClient
from ._client import Client

__all__ = ["SpikeAuth"]


class SpikeAuth(httpx.Auth):
    """Adds the header of a user. On a 401 it gets another token and retries once.

    ``httpx.Client`` needs a `spike_auth.Client`, ``httpx.AsyncClient`` a `spike_auth.AsyncClient`.

    Only a body in memory (``json=``, ``data=``, ``content=`` with text or bytes) can be sent again. With a stream or
    files the 401 is returned, and the next request uses another token. A redirect to another host carries no token.
    Thread-safe.

    Requests raise the errors of `Client.token`.
    """

    def __init__(self, client: Client | AsyncClient, user_id: str) -> None:
        if not isinstance(client, (Client, AsyncClient)):
            raise TypeError(f"client must be a Client or an AsyncClient of spike_auth, not {type(client).__name__}")
        self.client = client
        self.user_id = user_id

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Run the flow for ``httpx.Client``."""
        client = self.client
        if not isinstance(client, Client):
            raise TypeError("httpx.Client needs a spike_auth.Client; an AsyncClient is for httpx.AsyncClient")
        request.headers["Authorization"] = header = client.authorization(self.user_id)
        response = yield request
        if self._is_final(response, header, request):
            return
        del header  # keeps it out of tracebacks
        response.read()  # lets the connection be reused
        request.headers["Authorization"] = client.authorization(self.user_id)
        yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Run the flow for ``httpx.AsyncClient``."""
        client = self.client
        if not isinstance(client, AsyncClient):
            raise TypeError("httpx.AsyncClient needs a spike_auth.AsyncClient; a Client would block the loop")
        request.headers["Authorization"] = header = await client.authorization(self.user_id)
        response = yield request
        if self._is_final(response, header, request):
            return
        del header
        await response.aread()
        request.headers["Authorization"] = await client.authorization(self.user_id)
        yield request

    def _is_final(self, response: httpx.Response, header: str, request: httpx.Request) -> bool:
        # After a redirect to another host, the request had no header.
        if response.status_code != 401 or response.request.headers.get("Authorization") != header:
            return True
        self.client.invalidate(self.user_id, header.removeprefix("Bearer "))
        try:
            _ = request.content
        except httpx.RequestNotRead:
            return True
        return False
