"""Authentication for httpx: ``httpx.get(url, auth=SpikeAuth(client, user_id))``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx

from ._async import AsyncClient
from ._client import Client

__all__ = ["SpikeAuth"]


class SpikeAuth(httpx.Auth):
    """Adds the header of a user, and on a 401 gets another token and tries once more.

    ``httpx.Client`` needs a `spike_auth.Client`, ``httpx.AsyncClient`` a `spike_auth.AsyncClient`.

    Of bodies, only what httpx has in memory (``json=``, ``data=``, ``content=`` with text or bytes) can be sent again;
    with a stream or with files the 401 is returned, and the next request has another token. A redirect to another host
    takes no token along. Safe to share between threads.

    A request raises what `Client.token` raises.
    """

    def __init__(self, client: Client | AsyncClient, user_id: str) -> None:
        if not isinstance(client, (Client, AsyncClient)):
            raise TypeError(f"client must be a Client or an AsyncClient of spike_auth, not {type(client).__name__}")
        self.client = client
        self.user_id = user_id

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Do it for ``httpx.Client``."""
        client = self.client
        if not isinstance(client, Client):
            raise TypeError("httpx.Client needs a spike_auth.Client; an AsyncClient is for httpx.AsyncClient")
        request.headers["Authorization"] = header = client.authorization(self.user_id)
        response = yield request
        if self._is_over(response, header, request):
            return
        del header  # so that it is in no traceback
        response.read()  # so that the connection can be used again
        request.headers["Authorization"] = client.authorization(self.user_id)
        yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Do it for ``httpx.AsyncClient``."""
        client = self.client
        if not isinstance(client, AsyncClient):
            raise TypeError("httpx.AsyncClient needs a spike_auth.AsyncClient; a Client would block the loop")
        request.headers["Authorization"] = header = await client.authorization(self.user_id)
        response = yield request
        if self._is_over(response, header, request):
            return
        del header
        await response.aread()
        request.headers["Authorization"] = await client.authorization(self.user_id)
        yield request

    def _is_over(self, response: httpx.Response, header: str, request: httpx.Request) -> bool:
        # The answer may be that of another host, to which a redirect led without the header.
        if response.status_code != 401 or response.request.headers.get("Authorization") != header:
            return True
        self.client.invalidate(self.user_id, header.removeprefix("Bearer "))
        try:
            _ = request.content
        except httpx.RequestNotRead:
            return True
        return False
