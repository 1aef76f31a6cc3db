"""Authentication for aiohttp: ``ClientSession(middlewares=[SpikeAuth(client, user_id)])``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.payload import BytesPayload

from ._async import AsyncClient

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from yarl import URL

__all__ = ["SpikeAuth"]


class SpikeAuth:
    """A client middleware that adds the header of a user. On a 401 it gets another token and retries once.

    It serves one origin, that of its first request, as the middlewares of aiohttp do. Requests to another origin, and
    redirects there, carry no token.

    Only a body in memory (``json=``, ``data=`` with text, bytes or a form without files) can be sent again. With any
    other the 401 is returned, and the next request uses another token.

    Requests raise the errors of `AsyncClient.token`.
    """

    def __init__(self, client: AsyncClient, user_id: str) -> None:
        if not isinstance(client, AsyncClient):
            raise TypeError(f"client must be a spike_auth.AsyncClient, not {type(client).__name__}")
        self.client = client
        self.user_id = user_id
        self._origin: URL | None = None

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request of a session."""
        origin = request.url.origin()
        if self._origin is None:
            self._origin = origin
        if origin != self._origin:
            return await handler(request)
        request.headers["Authorization"] = header = await self.client.authorization(self.user_id)
        response = await handler(request)
        if response.status != 401:
            return response
        self.client.invalidate(self.user_id, header.removeprefix("Bearer "))
        del header  # keeps it out of tracebacks
        if not isinstance(request.body, (bytes, BytesPayload)):
            return response
        await response.read()  # lets the connection be reused
        request.headers["Authorization"] = await self.client.authorization(self.user_id)
        return await handler(request)
