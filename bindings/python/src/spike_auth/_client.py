"""The client for threads, its base class, and the functions that need no client."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from ctypes import addressof, byref, c_char, c_int64, memset
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from ._buffers import check, ending_of, text_of
from ._bulk import SIGNATURE_LEN, offsets_of, split_signatures
from ._calls import Request, new_call
from ._diagnosis import diagnosis
from ._errors import ClientClosed, InvalidInput, SpikeAuthError
from ._library import lib
from ._log import logged
from ._prototypes import ClientHandle, StatsStruct, Status
from ._settings import DEFAULT_TIMEOUT, Settings, encode, key_bytes, milliseconds, open_client
from ._stats import Stats
from ._waits import perform

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_Value = TypeVar("_Value")


def sign_user(hmac_key: str | bytes, user_id: str) -> str:
    """Sign a user id: HMAC-SHA256 as 64 lowercase hex characters.

    `Client.sign` is faster because it prepares the key once. The key is used as the console shows it, without hex or
    base64 decoding. A signature never expires: keep it as secret as a password. Thread-safe.

    Raises `InvalidInput` for a bad user id, and `ConfigurationError` if the key is not 1 to 4096 bytes long.
    """
    key, user = key_bytes("hmac_key", hmac_key), encode("user_id", user_id)
    return value_or_raise(ending_of(lib.sign_user, key, len(key), user, len(user))).text


def verify_user(hmac_key: str | bytes, user_id: str, signature: str) -> bool:
    """Return whether a signature matches a user id and key, in constant time.

    Hex digits may be in either case. Thread-safe.

    Raises `InvalidInput` for a bad user id or a signature that is not 64 hex characters, and `ConfigurationError` if
    the key is not 1 to 4096 bytes long.
    """
    key, user, text = key_bytes("hmac_key", hmac_key), encode("user_id", user_id), encode("signature", signature)
    try:
        check(lib.verify_user, key, len(key), user, len(user), text, len(text))
    except InvalidInput as error:
        if error.status is not Status.SIGNATURE_MISMATCH:
            raise
        return False
    return True


def value_or_raise(outcome: _Value | SpikeAuthError) -> _Value:
    """Return the outcome, or raise it if it is an error."""
    if not isinstance(outcome, SpikeAuthError):
        return outcome
    try:
        raise outcome
    finally:
        del outcome  # the traceback would make a reference cycle that keeps the client


class BaseClient:
    """The methods of both clients that do not wait."""

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
        max_rate: int | None = None,
        cache_capacity: int | None = None,
        cache_max_bytes: int | None = None,
        cache_ttl: float | None = None,
        store: str | None = None,
        store_timeout: float | None = None,
        user_agent: str | None = None,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        self._handle = open_client(settings, from_env=False)

    @classmethod
    def from_env(cls, **overrides: Unpack[Settings]) -> Self:
        """Make a client with the settings of the environment. Arguments override them.

        Reads ``SPIKE_APPLICATION_ID``, ``SPIKE_HMAC_KEY`` or ``SPIKE_HMAC_KEY_FILE``, ``SPIKE_API_BASE_URL``,
        ``SPIKE_TIMEOUT_MS``, ``SPIKE_CA_FILE``, ``SPIKE_STORE_URL`` or ``SPIKE_STORE_URL_FILE``,
        ``SPIKE_STORE_TIMEOUT_MS``, and the proxy variables. Unset variables leave the defaults.

        Raises the errors of the constructor, and `ConfigurationError` for a variable with a bad value; the text names
        it. A proxy variable is checked only if its proxy would be used. A program with raised privileges (setuid, file
        capabilities) cannot read its settings from the environment: `ConfigurationError`.
        """
        client = cls.__new__(cls)
        client._handle = open_client(overrides, from_env=True)  # noqa: SLF001  of this class
        return client

    def sign(self, user_id: str) -> str:
        """Sign a user id with the client's key: HMAC-SHA256 as 64 lowercase hex characters.

        A signature never expires: keep it as secret as a password. Sends nothing.

        Raises `InvalidInput` for a bad user id or if the client has no key, and `ClientClosed`.
        """
        user = encode("user_id", user_id)
        signature = text_of(lib.unchecked_client_sign_user, self._handle, user)
        return signature or value_or_raise(ending_of(lib.client_sign_user, self._require_open(), user, len(user))).text

    def sign_many(self, user_ids: Iterable[str]) -> list[str]:
        """Sign many user ids with one call into the library, which is much faster than one by one.

        Returns the signatures in the order of the ids. Signs all or none.

        Raises `InvalidInput` if an id is bad, with the index of the first bad one in its text, or if the client has no
        key; and `ClientClosed`.
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
            raise TypeError("user_ids must be plain str: the len() of one of them is not the length of its text")
        size = len(signatures)
        signatures.append(0)  # ctypes has no address for an empty buffer
        start, out = c_int64.from_buffer(offsets), c_char.from_buffer(signatures)
        try:
            inputs = (run, len(run), byref(start), len(users), addressof(out), size, None)
            check(lib.client_sign_users, self._require_open(), *inputs)
            return split_signatures(signatures)
        finally:
            memset(addressof(out), 0, size)

    def set_hmac_key(self, hmac_key: str | bytes) -> None:
        """Sign with another key from now on, while other threads use the client.

        Kept tokens stay, and exchanges under way finish: one whose signature the service refuses is repeated with the
        new key. A client whose key came from ``SPIKE_HMAC_KEY_FILE`` reads that file again after a 401, at most once in
        five seconds; after this call it does not.

        Raises `ConfigurationError` if the key is not 1 to 4096 bytes long, and `ClientClosed`.
        """
        key = key_bytes("hmac_key", hmac_key)
        check(lib.client_set_hmac_key, self._require_open(), key, len(key))

    def invalidate(self, user_id: str, rejected: str) -> None:
        """Report that a service refused a token with a 401. The next `token` call returns another one.

        Drops the token only if it is still the cached one, so a hundred workers that report the same token cause one
        exchange. At most one new token is requested per user within five seconds of a report. If it is refused too,
        `token` raises `Rejected` until the five seconds are over. `rejected` is the token without ``"Bearer "``.

        Raises `InvalidInput` for a bad user id or text that cannot be a token, and `ClientClosed`.
        """
        user, token = encode("user_id", user_id), encode("rejected", rejected)
        check(lib.client_invalidate, self._require_open(), user, len(user), token, len(token))

    def forget(self, user_id: str) -> None:
        """Drop the cached token of a user, if there is one. After a 401 use `invalidate` instead.

        Raises `InvalidInput` for a bad user id, and `ClientClosed`.
        """
        user = encode("user_id", user_id)
        check(lib.client_forget, self._require_open(), user, len(user))

    def clear(self) -> None:
        """Drop all cached tokens. Raises `ClientClosed`."""
        check(lib.client_clear, self._require_open())

    def stats(self) -> Stats:
        """Return the counters of the cache. Raises `ClientClosed`."""
        struct = StatsStruct()
        check(lib.client_stats, self._require_open(), byref(struct))
        return Stats(*(getattr(struct, name) for name in Stats.__dataclass_fields__))

    def _require_open(self) -> ClientHandle:
        """Return the handle. Callers keep a reference during the call, so that `close` does not free it meanwhile."""
        handle = self._handle
        if not handle:
            raise ClientClosed("The client was closed. Make a new one.")
        return handle

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            lib.client_close(handle)

    @staticmethod
    def _exchange_request(user_id: str, signature: str | None, timeout: float | None) -> Request:
        timeout_ms = milliseconds("timeout", timeout)
        user = encode("user_id", user_id)
        if signature is None:
            return Request(lib.client_start_exchange, lib.client_exchange, (user, len(user)), timeout_ms)
        text = encode("signature", signature)
        inputs = (user, len(user), text, len(text))
        return Request(lib.client_start_exchange_signature, lib.client_exchange_signature, inputs, timeout_ms)

    @staticmethod
    def _token_request(user: bytes, timeout_ms: int) -> Request:
        return Request(lib.client_start_token, lib.client_get_token, (user, len(user)), timeout_ms)

    def __repr__(self) -> str:
        state = "open" if self._handle else "closed"
        return f"<{type(self).__module__}.{type(self).__qualname__} ({state})>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled: share it between threads, make it before a fork, or "
            "make another one in the other process with from_env()"
        )


class Client(BaseClient):
    """Signs user ids, exchanges signatures for access tokens, and caches the tokens, for one application.

    Make one per process and keep it: it holds connections and tokens. It is thread-safe and works in forked children.
    While a call waits for the service, other threads run; in the main thread Ctrl-C ends it at once.

    `application_id` is the one setting without a default. `hmac_key` is the key as the console shows it, not decoded;
    a client without a key can exchange signatures made elsewhere.

    All times are in seconds. None leaves a setting at its default.

    - `base_url`: ``https``, or ``http`` for this machine only.
    - `timeout`: for a whole call, with all attempts and waits; 10 s, at most 600.
    - `connect_timeout`: for a new connection; 3.1 s.
    - `max_attempts`: including the first; 3, at most 10.
    - `ca_file`: the path of a PEM file with certificates to trust in addition to the roots.
    - `tls_roots`: ``"platform"``, ``"bundled"`` (Mozilla's) or ``"none"`` (only those of `ca_file`).
    - `proxy`: ``http://[user:password@]host[:port]``; empty for none.
    - `max_concurrency`: exchanges in flight at once; 32, at most 1024. Further ones wait.
    - `max_rate`: requests per second, retries included; 0 for no limit, the default. A call waits for its turn, or
      raises `RateLimited` at once if its timeout is too short. Per process: divide a fleet's total by its processes.
    - `cache_capacity`: cached tokens; 100 000. 0 caches none.
    - `cache_max_bytes`: their memory; 64 MiB.
    - `cache_ttl`: the age at which a cached token is renewed; one hour. A token without an expiry is kept for twice
      this age. 0 for no limit.
    - `store`: a Redis or Valkey, or a node of a cluster, in which processes share their tokens, such as
      ``redis://localhost`` or ``unix:///run/redis.sock``; ``rediss://`` for TLS; empty for none. No call fails because
      of it: see `check_store`.
    - `store_timeout`: for one operation of the store; 0.25 s, at most 10, and never over a quarter of a call's time.
    - `user_agent`: text after the library's name in that header, such as ``"shop/1.2"``.

    Raises `ConfigurationError` for a setting that cannot be used, `InvalidInput` for a number out of range, and
    `TypeError`.
    """

    def exchange(self, user_id: str, signature: str | None = None, *, timeout: float | None = None) -> str:
        """Request a new token from the service. Neither reads nor fills the cache.

        With a `signature` (64 hex characters, made where the key is) the client needs no key. `timeout`, in seconds,
        replaces the client's for this call.

        Raises any `SpikeAuthError`: `InvalidInput` for bad arguments, `ClientClosed`, and for failures of network and
        service `NetworkError`, `ExchangeTimeout`, `Rejected`, `RateLimited`, `ServerError`, `InvalidResponse`.
        """
        return self._get(self._exchange_request(user_id, signature, timeout))

    def token(self, user_id: str, *, timeout: float | None = None) -> str:
        """Return the access token of a user: the cached one, or a new one, which is then cached.

        Concurrent calls for the same user share one exchange. `timeout`, in seconds, replaces the client's for this
        call.

        Raises the errors of `exchange`.
        """
        timeout_ms = milliseconds("timeout", timeout)
        user = encode("user_id", user_id)
        cached = text_of(lib.unchecked_client_peek_token, self._handle, user)
        return cached or self._get(self._token_request(user, timeout_ms))

    def authorization(self, user_id: str, *, timeout: float | None = None) -> str:
        """Return the value of an ``Authorization`` header for a user: ``"Bearer "`` and the token."""
        return f"Bearer {self.token(user_id, timeout=timeout)}"

    def _get(self, request: Request) -> str:
        began = monotonic()
        return value_or_raise(logged(perform(self._require_open(), request), began)).text

    def check_store(self, *, timeout: float | None = None) -> None:
        """Try every command that the store needs, on a key of its own. The one way in which a wrong `store` is seen.

        Call it at the start of the program, and log its error: no other call fails because of the store. Blocks its
        thread, under gevent the others of that thread too, for at most `store_timeout` or a quarter of `timeout`.
        Ctrl-C takes effect after that.

        Raises `NetworkError` with the status ``STORE``, also if no store is set; `InvalidInput` if the client has no
        key; and `ClientClosed`.
        """
        self._ask_store(timeout, lib.client_check_store)

    def forget_shared(self, user_id: str, *, timeout: float | None = None) -> None:
        """Drop the token of a user here, as `forget` does, and in the store. Other processes keep theirs until it ends.

        Blocks as `check_store` does. Without a store it only forgets.

        Raises `NetworkError` with the status ``STORE`` if the store cannot be reached (the token is forgotten here
        then), `InvalidInput` for a bad user id or if the client has no key, and `ClientClosed`.
        """
        user = encode("user_id", user_id)
        self._ask_store(timeout, lib.client_forget_shared, user, len(user))

    def diagnose(self, user_id: str | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Look at everything that a token needs, and return a report: ``python -m spike_auth doctor`` shows it.

        docs/doctor.md describes its members. It holds no secret and no user id. Makes a connection of its own and, if
        a user is given, requests one token, without a retry. Uses and changes nothing of the cache.
        Blocks as `check_store` does, at most as long as `timeout`.

        Raises `InvalidInput` for a bad user id, and `ClientClosed`. All other failures are in the report.
        """
        user = b"" if user_id is None else encode("user_id", user_id)
        call = new_call(milliseconds("timeout", timeout))
        try:
            return value_or_raise(diagnosis(self._require_open(), user, call))
        finally:
            lib.call_free(call)

    def _ask_store(self, timeout: float | None, function: Callable[..., int], *inputs: Any) -> None:
        call = new_call(milliseconds("timeout", timeout))
        try:
            check(function, self._require_open(), *inputs, call)
        finally:
            lib.call_free(call)

    def close(self) -> None:
        """Close the client: calls in flight raise `ClientClosed` at once, and so do later ones.

        Thread-safe; closing twice is allowed. Key and tokens are wiped when the last call has returned.
        """
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
