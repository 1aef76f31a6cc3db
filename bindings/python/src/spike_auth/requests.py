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
    """Adds the header of a user, and on a 401 gets another token and tries once more.

    A body that cannot be sent again (a generator, a pipe) is not: its 401 is returned, and the next request has another
    token. A redirect to another host takes no token along. Safe to share between threads.

    A request raises what `Client.token` raises, also while it is prepared.
    """

    def __init__(self, client: Client, user_id: str) -> None:
        if not isinstance(client, Client):
            raise TypeError(f"client must be a spike_auth.Client, not {type(client).__name__}")
        self.client = client
        self.user_id = user_id

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the header to a request."""
        request.headers["Authorization"] = header = self.client.authorization(self.user_id)
        request.register_hook("response", _Answered(self, header))
        return request

    def answered(self, header: str, response: Response, **options: Any) -> Response:
        """Get another token if the answer is a 401, and send the request once more."""
        # The hook also sees what a redirect led to: at another host the header has been taken off, and after the second
        # try it is another one.
        request = response.request
        if response.status_code != 401 or request.headers.get("Authorization") != header:
            return response
        self.client.invalidate(self.user_id, header.removeprefix("Bearer "))
        del header  # so that it is in no traceback
        if not _rewind(request):
            return response
        _ = response.content  # so that the connection can be used again
        response.close()
        # In the request itself too, which is what a redirect of the second answer is made of.
        request.headers["Authorization"] = self.client.authorization(self.user_id)
        again: Response = response.connection.send(request.copy(), **options)
        again.history.append(response)
        return again


class _Answered:
    """The hook of one request. It shows no token, and goes when the response is pickled."""

    __slots__ = ("_auth", "_header")

    def __init__(self, auth: SpikeAuth, header: str) -> None:
        self._auth, self._header = auth, header

    def __call__(self, response: Response, **options: Any) -> Response:
        return self._auth.answered(self._header, response, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (_no_answer,)


def _no_answer(response: Response, **_: Any) -> Response:
    return response


def _rewind(request: PreparedRequest) -> bool:
    """Whether the body can be sent again; if it is a file, it is where it was."""
    if request.body is None or isinstance(request.body, (str, bytes)):
        return True
    try:
        rewind_body(request)
    except UnrewindableBodyError:
        return False
    return True
