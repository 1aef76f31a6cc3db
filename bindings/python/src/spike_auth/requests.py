"""Authentication for requests: ``requests.get(url, auth=SpikeAuth(client, user_id))``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from requests.auth import AuthBase
from requests.exceptions import UnrewindableBodyError
from requests.utils import rewind_body

from ._client import Client

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

__all__ = ["SpikeAuth"]


class SpikeAuth(AuthBase):
    """Adds the header of a user. On a 401 it gets another token and retries once.

    If the body cannot be sent again (a generator, a pipe), the 401 is returned, and the next request uses another
    token. A redirect to another host carries no token. Thread-safe.

    Requests raise the errors of `Client.token`, also while they are prepared.
    """

    def __init__(self, client: Client, user_id: str) -> None:
        if not isinstance(client, Client):
            raise TypeError(f"client must be a spike_auth.Client, not {type(client).__name__}")
        self.client = client
        self.user_id = user_id

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header to a request."""
        request.headers["Authorization"] = header = self.client.authorization(self.user_id)
        request.register_hook("response", _ResponseHook(self, header))
        return request

    def answered(self, header: str, response: Response, **options: Any) -> Response:
        """If the response is a 401, get another token and send the request once more."""
        # The hook also sees the responses to redirects. The header is gone at another host, and differs after a retry.
        request = response.request
        if response.status_code != 401 or request.headers.get("Authorization") != header:
            return response
        self.client.invalidate(self.user_id, header.removeprefix("Bearer "))
        del header  # keeps it out of tracebacks
        if not _rewind(request):
            return response
        _ = response.content  # lets the connection be reused
        response.close()
        # Set on the original request, because requests builds a later redirect from it.
        request.headers["Authorization"] = self.client.authorization(self.user_id)
        again: Response = response.connection.send(request.copy(), **options)
        again.history.append(response)
        return again


class _ResponseHook:
    """The response hook of one request. Its repr shows no token, and pickling drops it."""

    __slots__ = ("_auth", "_header")

    def __init__(self, auth: SpikeAuth, header: str) -> None:
        self._auth, self._header = auth, header

    def __call__(self, response: Response, **options: Any) -> Response:
        return self._auth.answered(self._header, response, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (_ignore_response,)


def _ignore_response(response: Response, **_: Any) -> Response:
    return response


def _rewind(request: PreparedRequest) -> bool:
    """Return whether the body can be sent again. Rewinds a file."""
    if request.body is None or isinstance(request.body, (str, bytes)):
        return True
    try:
        rewind_body(request)
    except UnrewindableBodyError:
        return False
    return True
