"""The counters of a client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What a client's cache has done since the client was made, and what it holds.

    It counts `token` and `authorization`; `exchange` does not touch the cache. The numbers add up: ``hits + misses`` is
    the number of calls that asked, ``coalesced + exchanges <= misses``, ``failures <= exchanges`` and ``requests <=
    exchanges + retries``. In a child of fork all begin at zero, but `entries`, `bytes` and `forks`.
    """

    hits: int
    """Calls that were answered from the cache."""
    misses: int
    """Calls that were not."""
    coalesced: int
    """Misses that waited for an exchange which another call had begun."""
    exchanges: int
    """Exchanges that misses began."""
    requests: int
    """Requests that these exchanges sent."""
    retries: int
    """Requests among them that were not the first of their exchange."""
    failures: int
    """Exchanges that ended without a token that could be handed out."""
    invalidations: int
    """Tokens that were dropped because `invalidate` reported them."""
    evictions: int
    """Tokens that were dropped to make room."""
    entries: int
    """Tokens that are held now. One that has ended is held until it is asked for, or evicted."""
    bytes: int
    """The memory that they take, in bytes."""
    forks: int
    """How many forks lie between the process that made the client and this one."""
