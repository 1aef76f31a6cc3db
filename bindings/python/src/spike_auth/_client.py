"""The client for threads, what it shares with the one for asyncio, and what needs neither."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from ctypes import addressof, byref, c_char, c_int64, memset
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ._buffers import check, outcome_of, text_of
from ._bulk import SIGNATURE_LEN, cut, offsets_of
from ._errors import ClientClosed, InvalidInput, SpikeAuthError
from ._interrupt import interruptible
from ._library import lib
from ._prototypes import CallHandle, ClientHandle, StatsStruct, Status
from ._settings import DEFAULT_TIMEOUT, Settings, encode, key_bytes, milliseconds, open_client, timeout_of
from ._stats import Stats

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_COUNTERS = tuple(Stats.__dataclass_fields__)


def sign_user(hmac_key: str | bytes, user_id: str) -> str:
    """Sign a user id: HMAC-SHA256 as 64 lowercase hex characters.

    `Client.sign` does the same faster, since it prepares the key once. The key is taken as the console shows it, never
    hex- or base64-decoded; the signature never expires, so keep it as secret as a password. Safe in any thread.

    Raises `InvalidInput` for a bad user id, and `ConfigurationError` for a key that does not have 1 to 4096 bytes.
    """
    key, user = key_bytes(hmac_key), encode("user_id", user_id)
    return result_of(outcome_of(lib.sign_user, key, len(key), user, len(user)))


def verify_user(hmac_key: str | bytes, user_id: str, signature: str) -> bool:
    """Tell whether a signature is the one of this user id and key, in constant time.

    Hex in either case is fine. Safe in any thread.

    Raises `InvalidInput` for a bad user id and for what is not 64 hex characters, and `ConfigurationError` for a key
    that does not have 1 to 4096 bytes.
    """
    key, user, text = key_bytes(hmac_key), encode("user_id", user_id), encode("signature", signature)
    try:
        check(lib.verify_user, key, len(key), user, len(user), text, len(text))
    except InvalidInput as error:
        if error.status is not Status.SIGNATURE_MISMATCH:
            raise
        return False
    return True


def result_of(outcome: str | SpikeAuthError) -> str:
    """The text, or the error raised."""
    if isinstance(outcome, str):
        return outcome
    try:
        raise outcome
    finally:
        del outcome  # or it would hold on to itself by its traceback, and so to the client


def _new_call(timeout_ms: int) -> CallHandle:
    call = CallHandle()
    check(lib.call_new, byref(call))
    check(lib.call_set_timeout_ms, call, timeout_ms)
    return call


# What makes a token: a function, its inputs between client and call, and the deadline in ms (0: the client's).
Request = tuple[Callable[..., int], tuple[Any, ...], int]


def prepare(request: Request) -> tuple[CallHandle, Callable[[ClientHandle], str | SpikeAuthError]]:
    """Make a handle that cancels the request, and what performs it."""
    function, inputs, timeout_ms = request
    call = _new_call(timeout_ms)
    return call, lambda handle: outcome_of(function, handle, *inputs, call)


class BaseClient:
    """What both clients can do without waiting."""

    _handle: ClientHandle | None = None

    def __init__(
        self,
        application_id: int | str | None = None,
        hmac_key: str | bytes | None = None,
        *,
        base_url: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        connect_timeout: float | None = None,
        max_attempts: int | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        tls_roots: Literal["platform", "bundled", "none"] = "platform",
        proxy: str | None = None,
        max_concurrency: int | None = None,
        cache_capacity: int | None = None,
        cache_ttl: float | None = None,
        user_agent: str | None = None,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        self._open(settings, from_env=False)

    @classmethod
    def from_env(cls, **overrides: Unpack[Settings]) -> Self:
        """Make a client of the settings in the environment; what is passed here goes before them.

        Reads ``SPIKE_APPLICATION_ID``, ``SPIKE_HMAC_KEY`` or ``SPIKE_HMAC_KEY_FILE``, ``SPIKE_API_BASE_URL``,
        ``SPIKE_TIMEOUT_MS``, ``SPIKE_CA_FILE``, and the variables for proxies. What is not set there has its default.

        Raises what making a client raises, and `ConfigurationError` for a variable with a bad value, which the text
        names. A variable for proxies counts only where its proxy would be used. A program with raised privileges
        (setuid, file capabilities) may not read its settings from there: `ConfigurationError`.
        """
        client = cls.__new__(cls)
        client._open(overrides, from_env=True)  # noqa: SLF001  it is of this class
        return client

    def _open(self, settings: Mapping[str, Any], *, from_env: bool) -> None:
        self._handle = open_client(settings, from_env=from_env)
        self._timeout = timeout_of(settings, from_env=from_env)
        self._max_concurrency = settings.get("max_concurrency")

    def sign(self, user_id: str) -> str:
        """Sign a user id with the client's key: HMAC-SHA256 as 64 lowercase hex characters.

        It never expires: keep it as secret as a password. Sends nothing.

        Raises `InvalidInput` for a bad user id or if the client has no key, and `ClientClosed`.
        """
        user = encode("user_id", user_id)
        signature = text_of(lib.bare_client_sign_user, self._handle, user)
        return signature or result_of(outcome_of(lib.client_sign_user, self._opened(), user, len(user)))

    def sign_many(self, user_ids: Iterable[str]) -> list[str]:
        """Sign many user ids, in their order, with one call into the library, which is much faster than one by one.

        Raises `InvalidInput` if any of them is bad, with the index of the first one in its text, and then signs none;
        also if the client has no key; and `ClientClosed`.
        """
        if isinstance(user_ids, (str, bytes)):
            raise TypeError(f"user_ids must be an iterable of str, not one {type(user_ids).__name__}")
        users = list(user_ids)
        try:
            joined = "".join(users)
        except TypeError:
            index, wrong = next(item for item in enumerate(users) if not isinstance(item[1], str))
            raise TypeError(f"user_ids[{index}] must be a str, not {type(wrong).__name__}") from None
        run = encode("user_ids", joined)
        offsets, signatures = offsets_of(users), bytearray(SIGNATURE_LEN * len(users))
        if int.from_bytes(offsets[-8:], sys.byteorder) != len(joined):
            raise TypeError("user_ids must be plain str: the length that one of them tells is not that of its text")
        size = len(signatures)
        signatures.append(0)  # since ctypes gives no address of nothing
        start, out = c_int64.from_buffer(offsets), c_char.from_buffer(signatures)
        try:
            check(
                lib.client_sign_users,
                *(self._opened(), run, len(run), byref(start), len(users), addressof(out), size, None),
            )
            return cut(signatures)
        finally:
            memset(addressof(out), 0, size)

    def invalidate(self, user_id: str, rejected: str) -> None:
        """Report that a service refused a token (a 401 to a call with it): the next `token` gets another one.

        Drops it only if it is still the one that is kept, so that a hundred workers who report the same token make one
        exchange. In the five seconds after a report one new token is got; if that is refused too, `token` raises
        `Rejected` until they are over. `rejected` is the token without ``"Bearer "``.

        Raises `InvalidInput` for a bad user id or for what can be no token, and `ClientClosed`.
        """
        user, token = encode("user_id", user_id), encode("rejected", rejected)
        check(lib.client_invalidate, self._opened(), user, len(user), token, len(token))

    def forget(self, user_id: str) -> None:
        """Drop the token that is kept for a user, if there is one. After a 401 use `invalidate` instead.

        Raises `InvalidInput` for a bad user id, and `ClientClosed`.
        """
        user = encode("user_id", user_id)
        check(lib.client_forget, self._opened(), user, len(user))

    def clear(self) -> None:
        """Drop all tokens that are kept. Raises `ClientClosed`."""
        check(lib.client_clear, self._opened())

    def stats(self) -> Stats:
        """Read the counters of what is kept. Raises `ClientClosed`."""
        struct = StatsStruct()
        check(lib.client_stats, self._opened(), byref(struct))
        return Stats(*(getattr(struct, name) for name in _COUNTERS))

    def _opened(self) -> ClientHandle:
        """The handle. Whoever calls the library holds on to it, so that `close` does not free it under the call."""
        handle = self._handle
        if not handle:
            raise ClientClosed("The client was closed. Make a new one for further calls.")
        return handle

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            lib.client_close(handle)

    @staticmethod
    def _exchange_request(user_id: str, signature: str | None, timeout: float | None) -> Request:
        timeout_ms = 0 if timeout is None else milliseconds("timeout", timeout)
        user = encode("user_id", user_id)
        if signature is None:
            return lib.client_exchange, (user, len(user)), timeout_ms
        text = encode("signature", signature)
        return lib.client_exchange_signature, (user, len(user), text, len(text)), timeout_ms

    def __repr__(self) -> str:
        state = "open" if self._handle else "closed"
        return f"<{type(self).__module__}.{type(self).__qualname__} ({state})>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled: share it between threads, make it before a fork, or "
            "make another one in the process that needs it, with from_env()"
        )


class Client(BaseClient):
    """Signs user ids, exchanges signatures for access tokens and keeps these, for one application.

    Make one for each process and keep it: it keeps connections and tokens. Any number of threads may use it at once,
    and it works in the children of a fork. While a call waits for the service, other threads run; in the main thread
    Ctrl-C ends it at once.

    `application_id` is what the console shows, and the one setting without a default. `hmac_key` is the key as the
    console shows it, not decoded; without one, signatures that were made elsewhere can be exchanged.

    All times are in seconds. None leaves a setting at its default.

    - `base_url`: ``https``, or ``http`` for this machine alone.
    - `timeout`: of a whole call, with all its attempts and waits; 10 s, at most 600.
    - `connect_timeout`: within it a new connection must stand; 3.1 s.
    - `max_attempts`: the first one included; 3, at most 10.
    - `ca_file`: the path of a PEM file with certificates to trust beside the roots.
    - `tls_roots`: ``"platform"``, ``"bundled"`` (Mozilla's) or ``"none"`` (only those of `ca_file`).
    - `proxy`: ``http://[user:password@]host[:port]``; empty for none.
    - `max_concurrency`: exchanges in flight at once; 32, at most 1024. More wait for their turn.
    - `cache_capacity`: how many tokens are kept, within 64 MiB; 100 000. 0 keeps none.
    - `cache_ttl`: the age at which a kept token is renewed; one hour. A token that does not say when it ends is kept
      for twice this age. 0 for no limit.
    - `user_agent`: what follows the library's own name in that header, such as ``"shop/1.2"``.

    Raises `ConfigurationError` for a setting that cannot be used, `InvalidInput` for a number out of its range, and
    `TypeError`.
    """

    def exchange(self, user_id: str, signature: str | None = None, *, timeout: float | None = None) -> str:
        """Get a new token from the service, whether one is kept or not, and keep it not.

        With a `signature` (64 hex characters, made where the key is) no key is needed here. `timeout`, in seconds,
        takes the place of the client's for this call.

        Raises any `SpikeAuthError`: `InvalidInput` for bad arguments, `ClientClosed`, and what network and service can
        do: `NetworkError`, `ExchangeTimeout`, `Rejected`, `RateLimited`, `ServerError`, `InvalidResponse`.
        """
        return result_of(self._wait_for(self._exchange_request(user_id, signature, timeout)))

    def token(self, user_id: str, *, timeout: float | None = None) -> str:
        """Get the access token of a user: the one that is kept, else by an exchange whose token is then kept.

        However many threads ask for the same user at the same time, one exchange serves them all. `timeout`, in
        seconds, takes the place of the client's for this call.

        Raises what `exchange` raises.
        """
        timeout_ms = 0 if timeout is None else milliseconds("timeout", timeout)
        user = encode("user_id", user_id)
        kept = text_of(lib.bare_client_peek_token, self._handle, user)
        return kept or result_of(self._wait_for((lib.client_get_token, (user, len(user)), timeout_ms)))

    def authorization(self, user_id: str, *, timeout: float | None = None) -> str:
        """Get the value of an ``Authorization`` header for a user: ``"Bearer "`` and what `token` gives."""
        return f"Bearer {self.token(user_id, timeout=timeout)}"

    def close(self) -> None:
        """Close the client: calls in flight raise `ClientClosed` at once, and so do later ones.

        From any thread, as often as you like. Key and tokens are wiped when the last call has returned.
        """
        self._close()

    def _wait_for(self, request: Request) -> str | SpikeAuthError:
        # Not raised here: the traceback would keep the handle.
        handle = self._opened()
        call, perform = prepare(request)
        return interruptible(partial(perform, handle), partial(lib.call_cancel, call))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
