"""The counters of a client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """Counters and contents of a client's cache.

    They cover `token` and `authorization`; `exchange` does not use the cache. ``hits + misses`` is the number of calls,
    ``coalesced + exchanges + store_hits <= misses``, ``failures <= exchanges`` and ``requests <= exchanges + retries``.
    In a forked child all start at zero, except `entries`, `bytes` and `forks`.
    """

    hits: int
    """Calls answered from the cache."""
    misses: int
    """Calls not answered from the cache."""
    coalesced: int
    """Misses that waited for an exchange of another call."""
    exchanges: int
    """Exchanges that misses started."""
    requests: int
    """Requests sent by these exchanges."""
    retries: int
    """Requests after the first of their exchange."""
    failures: int
    """Exchanges that ended without a usable token."""
    invalidations: int
    """Tokens dropped because `invalidate` reported them."""
    evictions: int
    """Tokens dropped because the cache was full."""
    entries: int
    """Cached tokens. An expired one counts until it is asked for or evicted."""
    bytes: int
    """Memory used by the cached tokens, in bytes."""
    forks: int
    """Forks between the process that made the client and this one."""
    pending: int
    """Calls under way: those of an `AsyncClient`, and those of a `Client` in the main thread or in a greenlet."""
    store_hits: int
    """Misses that took a token from the store."""
    store_misses: int
    """Exchanges made because the store held no token."""
    store_waits: int
    """Misses that waited for another process' exchange."""
    store_errors: int
    """Operations of the store that failed."""
    store_skipped: int
    """Exchanges made without a look into the store, because it had failed three times in a row."""
    key_changes: int
    """How often the key was changed, by `set_hmac_key` or in its file."""
