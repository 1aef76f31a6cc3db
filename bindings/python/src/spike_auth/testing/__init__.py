"""A stand-in for the service, for tests of programs that use this package.

    from spike_auth.testing import FakeService

    with FakeService() as service, service.client() as client:
        service.respond(503, times=2)
        assert client.token("alice") == service.token("alice")
        assert service.requests == 3

pytest has it as the fixture ``spike_auth_service``. It follows public facts about the service: what it accepts or
refuses proves nothing about Spike. docs/testing.md says what it promises.
"""

from __future__ import annotations

import base64
import hmac
import threading
import time
from collections import Counter, defaultdict, deque
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import spike_auth

from ._requests import Answer, compact, id_in_json, parse, problem
from ._server import Server

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .._settings import Settings

__all__ = ["CONFLICTING", "FakeService"]

# Variables that must not be set beside those of `FakeService.env`: a second key, and stores that would be asked first.
CONFLICTING = ("SPIKE_HMAC_KEY_FILE", "SPIKE_STORE_URL", "SPIKE_STORE_URL_FILE")


class FakeService:
    """A service on a port of 127.0.0.1 that the system chooses. It starts at once. Thread-safe; a context manager.

    It checks requests as the service does, signature included, and answers with a token of the user: the same each
    time, or another one for each request with `fresh_tokens`. With `token_lifetime`, in seconds, tokens expire.

    `hmac_key` may be assigned: from then on, signatures by another key get a 401.
    """

    def __init__(
        self,
        application_id: int | str = 9999,
        hmac_key: str = "HMAC_KEY_FROM_ADMIN_CONSOLE",
        *,
        fresh_tokens: bool = False,
        token_lifetime: int | None = None,
    ) -> None:
        self.application_id = str(application_id)
        self.hmac_key = hmac_key
        self._fresh_tokens, self._token_lifetime = fresh_tokens, token_lifetime
        self._lock = threading.Lock()
        self._made = 0  # tokens
        self.reset()
        self._server = Server(self._answer)

    # ---- what leads a client here

    @property
    def base_url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:4567/v3``."""
        return f"http://127.0.0.1:{self._server.port}/v3"

    @property
    def env(self) -> dict[str, str]:
        """The variables that `Client.from_env` reads."""
        return {
            "SPIKE_APPLICATION_ID": self.application_id,
            "SPIKE_HMAC_KEY": self.hmac_key,
            "SPIKE_API_BASE_URL": self.base_url,
        }

    @property
    def settings(self) -> Settings:
        """The same as arguments, such as ``AsyncClient(**service.settings)``."""
        return {"application_id": self.application_id, "hmac_key": self.hmac_key, "base_url": self.base_url}

    def client(self, **settings: Unpack[Settings]) -> spike_auth.Client:
        """Return a new client of this service. The caller closes it."""
        merged: dict[str, Any] = {**self.settings, **settings}
        return spike_auth.Client(**merged)

    # ---- the script

    def respond(
        self,
        status: int = 200,
        *,
        user: str | None = None,
        times: int | None = None,
        retry_after: int | datetime | None = None,
        delay: float = 0.0,
        body: str | bytes | None = None,
        drop: bool = False,
    ) -> None:
        """Script the answer to good requests: those of a user, or of everyone.

        With `times` it holds for so many requests, one scripted answer after the other; without, until it is replaced.
        A user's own answers go before everyone's. So ``respond()`` ends a lasting failure.

        A 200 has a token unless `body` is given; another status has a problem document. `retry_after` is a number of
        seconds, or a time with its zone. `delay` is in seconds. `drop` closes the connection without an answer.
        """
        if not 200 <= status <= 599:
            raise ValueError("status must be from 200 to 599")
        if times is not None and times < 1:
            raise ValueError("times must be at least 1")
        if delay < 0:
            raise ValueError("delay must not be negative")
        text = body.encode() if isinstance(body, str) else body
        answer = Answer(status, text, _header(retry_after), delay, drop)
        with self._lock:
            if times is None:
                self._lasting[user] = answer
            else:
                self._limited[user].append((times, answer))

    def reset(self) -> None:
        """Forget the script, the counts and the tokens."""
        with self._lock:
            self._limited: defaultdict[str | None, deque[tuple[int, Answer]]] = defaultdict(deque)
            self._lasting: dict[str | None, Answer] = {}
            self._requests = 0
            self._users: Counter[str] = Counter()
            self._tokens: dict[str, str] = {}

    # ---- what happened

    @property
    def requests(self) -> int:
        """The number of requests, good or bad."""
        with self._lock:
            return self._requests

    def requests_for(self, user_id: str) -> int:
        """Return the number of well-formed requests for a user, those with a wrong signature included."""
        with self._lock:
            return self._users[user_id]

    def token(self, user_id: str) -> str | None:
        """Return the last token that was made for a user, or None."""
        with self._lock:
            return self._tokens.get(user_id)

    # ---- the end

    def close(self) -> None:
        """Close the port and all connections; delayed answers are dropped. Closing twice is allowed."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- a request

    def _answer(self, method: str, path: str, content_type: str, body: bytes) -> Answer:
        if path != "/v3/auth/hmac":
            return problem(404, "no such path")
        expected_id = id_in_json(self.application_id)
        exchange = parse(method, content_type, body, expected_id)
        with self._lock:
            self._requests += 1
            if isinstance(exchange, Answer):
                return exchange
            self._users[exchange.user_id] += 1
            signature = hmac.digest(self.hmac_key.encode(), exchange.user_id.encode(), "sha256").hex()
            if exchange.application_id != expected_id or not hmac.compare_digest(exchange.signature, signature):
                return problem(401, "invalid signature")
            return self._accept(exchange.user_id)

    def _accept(self, user: str) -> Answer:
        answer = self._scripted(user) or self._scripted(None) or Answer()
        if answer.body is not None or answer.drop:
            return answer
        if answer.status != 200:
            return answer._replace(body=problem(answer.status, f"the test asked for {answer.status}").body)
        self._tokens[user] = token = self._token(user)
        return answer._replace(body=compact({"access_token": token}))

    def _scripted(self, user: str | None) -> Answer | None:
        if not (limited := self._limited.get(user)):
            return self._lasting.get(user)
        times, answer = limited.popleft()
        if times > 1:
            limited.appendleft((times - 1, answer))
        return answer

    def _token(self, user: str) -> str:
        """Make a token with the claims of the documented sample. Its signature is for show."""
        claims: dict[str, Any] = {"iss": self.application_id, "sub": user}
        if self._token_lifetime is not None:
            now = int(time.time())
            claims |= {"iat": now, "exp": now + self._token_lifetime}
        if self._fresh_tokens:
            self._made += 1
            claims["jti"] = str(self._made)
        signed = f"{_base64url(compact({'alg': 'HS256', 'typ': 'JWT'}))}.{_base64url(compact(claims))}"
        return f"{signed}.{_base64url(hmac.digest(b'for show', signed.encode(), 'sha256'))}"


def _header(retry_after: int | datetime | None) -> str | None:
    if isinstance(retry_after, datetime):
        return format_datetime(retry_after.astimezone(timezone.utc), usegmt=True)
    return None if retry_after is None else str(retry_after)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
