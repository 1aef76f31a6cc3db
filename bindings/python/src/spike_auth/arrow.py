"""Columns of user ids in Arrow's memory: signs them, or gets their tokens.

A column is a pyarrow array or chunked array of any string type, also a dictionary of strings, or an object that exports
one (of Polars, DuckDB or pandas), also a table with this one column.
"""

# pyarrow has no types.
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import closing
from ctypes import byref, c_char_p, c_int32, c_int64
from functools import cache
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from ._bulk import SIGNATURE_LEN
from ._client import BaseClient, Client
from ._errors import error_from
from ._library import lib
from ._prototypes import ErrorStruct, Status
from ._provision import Window, handle_of

__all__ = ["client", "provision", "sign", "tokens"]

Column: TypeAlias = Any  # what exports an Arrow column has no type in common

# The offsets of a string array have 32 bits.
_MOST_ROWS = (2**31 - 1) // SIGNATURE_LEN
# To make its offsets would take a tenth of the time of a column of an engine's batch.
_KEPT_ROWS = 65536
# Ids that are Python objects at the same time.
_SLICE = 4096

_made: dict[str, Client] = {}


def client() -> Client:
    """Return the client of this process, which the first call makes with `Client.from_env`.

    For a function that an engine runs in its workers: a client cannot be sent to them. Thread-safe; in a forked child
    the client of its parent goes on. Raises the errors of `Client.from_env`.
    """
    # Without a lock, which a fork could leave held: of two clients made at once, one is kept.
    return _made.get("client") or _made.setdefault("client", Client.from_env())


def sign(client: BaseClient, column: Column) -> pa.Array | pa.ChunkedArray:
    """Sign a column of user ids. Return a column of signatures: strings of 64 lowercase hex characters.

    The row of a null or of a bad id is null. A chunked column gives a chunked one. A signature never expires: keep it
    as secret as a password.

    One call into the library per chunk, during which other threads run. It reads ``large_string`` where it is; another
    string type is converted first.

    Raises `TypeError` for a column of another type, `ValueError` for an array of more than 33 million rows (a chunked
    array can have more), `InvalidInput` if the client has no key, and `ClientClosed`.
    """
    ids = _ids_of(column)
    if isinstance(ids, pa.Array):
        return _sign(client, ids)
    parts = (chunk.slice(first, _MOST_ROWS) for chunk in ids.chunks for first in range(0, len(chunk), _MOST_ROWS))
    return pa.chunked_array([_sign(client, part) for part in parts], pa.string())


def provision(
    client: BaseClient, column: Column, *, concurrency: int = 32, timeout: float | None = None
) -> pa.Array | pa.ChunkedArray:
    """Get a token for each user of a column, into the client's cache and its store. Return their statuses.

    The statuses are `Status` numbers as int32: 0 for a user who has a token now, null for a null id. A chunked column
    gives a chunked one. No token leaves the library. Without a store the tokens end with the process, and no more are
    kept than the cache holds.

    At most `concurrency` calls are under way, with no thread each. Only the client's `max_concurrency` of them have a
    request in flight. `timeout`, in seconds, replaces the client's for each call. After a 429, or when the client's
    `max_rate` leaves no time, all pause for as long as the error says, and the user is tried again; a user gets
    RATE_LIMITED after ten calls that ended with a 429. More calls than `max_rate` times the timeout only make some end
    with TIMEOUT. Ctrl-C ends all calls at once.

    Raises `TypeError` for a column of another type, `InvalidInput` for a bad argument or if the client has no key, and
    `ClientClosed`.
    """
    ids = _ids_of(column)
    statuses, _ = _run(client, ids, concurrency, timeout, wants_tokens=False)
    return statuses if isinstance(ids, pa.Array) else _chunked_like(ids, statuses)


def tokens(
    client: BaseClient, column: Column, *, concurrency: int = 32, timeout: float | None = None
) -> pa.RecordBatch:
    """Get the token of each user of a column. Return a record batch with the columns `id`, `token` and `status`.

    As `provision`, but the tokens leave the library. They are as secret as passwords, and nothing wipes them: do not
    print the batch, and do not write it to a file. Without a token, `token` is null.

    Ids and tokens are at most 2 GiB of text each: split a column of more than some 10 million users. Raises the errors
    of `provision`.
    """
    ids = _ids_of(column)
    statuses, texts = _run(client, ids, concurrency, timeout, wants_tokens=True)
    whole = ids if isinstance(ids, pa.Array) else pa.concat_arrays(ids.chunks or [pa.nulls(0, pa.large_string())])
    names = ["id", "token", "status"]
    return pa.RecordBatch.from_arrays([whole.cast(pa.string()), pa.array(texts, pa.string()), statuses], names)


def bytes_of(column: Column) -> list[bytes | None]:
    """Return the ids of a column, for the command."""
    ids: list[bytes | None] = _ids_of(column).cast(pa.large_binary()).to_pylist()
    return ids


def _ids_of(column: Column) -> pa.Array | pa.ChunkedArray:
    """Return the column as ``large_string``."""
    found = column
    if not isinstance(column, (pa.Array, pa.ChunkedArray)):
        found = _imported(column)
    if isinstance(found, pa.Array):
        return _strings(found)
    return pa.chunked_array([_strings(chunk) for chunk in found.chunks] or [_strings(pa.nulls(0, found.type))])


def _imported(column: Column) -> pa.Array | pa.ChunkedArray:
    if hasattr(column, "__arrow_c_array__"):
        return pa.array(column)
    if hasattr(column, "__arrow_c_stream__"):
        return pa.chunked_array(column)
    raise TypeError(
        f"column must be an Arrow column, such as a pyarrow.Array or a Series of Polars, not {type(column).__name__}"
    )


def _strings(ids: pa.Array) -> pa.Array:
    if pa.types.is_struct(ids.type):  # a table
        if ids.type.num_fields != 1:
            raise TypeError(f"column must be one column of strings, not a table with {ids.type.num_fields} columns")
        ids = ids.flatten()[0]
    if pa.types.is_dictionary(ids.type):
        return _strings(ids.dictionary).take(ids.indices)
    if not _is_string(ids.type):
        raise TypeError(f"column must be of a string type of Arrow, not {ids.type}")
    return ids.cast(pa.large_string())


def _is_string(kind: pa.DataType) -> bool:
    return kind in {pa.string(), pa.large_string(), pa.string_view(), pa.null()}


def _sign(client: BaseClient, ids: pa.Array) -> pa.Array:
    rows = len(ids)
    if rows > _MOST_ROWS:
        raise ValueError(f"column has {rows} rows, an array of signatures at most {_MOST_ROWS}: pass a chunked array")
    signatures, statuses = pa.allocate_buffer(SIGNATURE_LEN * rows), pa.allocate_buffer(4 * rows)
    are_all_signed = _sign_into(client, ids, signatures, statuses) if rows else True
    validity = None
    if ids.null_count or not are_all_signed:
        is_signed = pc.equal(pa.Array.from_buffers(pa.int32(), rows, [None, statuses]), 0)
        validity = pc.and_(is_signed, ids.is_valid()).buffers()[1]
    offsets = _kept_offsets() if rows <= _KEPT_ROWS else _offsets(rows)
    return pa.Array.from_buffers(pa.string(), rows, [validity, offsets.slice(0, 4 * (rows + 1)), signatures])


def _offsets(rows: int) -> pa.Buffer:
    """Return 0, 64, 128 and so on, as int32."""
    length = pa.scalar(SIGNATURE_LEN, pa.int32())
    offsets = pc.cumulative_sum(pa.repeat(length, rows + 1), start=pa.scalar(-SIGNATURE_LEN, pa.int32()))
    return offsets.buffers()[1]


@cache
def _kept_offsets() -> pa.Buffer:
    return _offsets(_KEPT_ROWS)


def _sign_into(client: BaseClient, ids: pa.Array, signatures: pa.Buffer, statuses: pa.Buffer) -> bool:
    """Return whether all ids were good."""
    _, offsets, text = ids.buffers()
    size = text.size if text else 0
    error = ErrorStruct()
    lib.client_sign_users(
        handle_of(client),
        c_char_p(text.address if size else None),
        size,
        byref(c_int64.from_address(offsets.address + 8 * ids.offset)),
        len(ids),
        signatures.address,
        signatures.size,
        byref(c_int32.from_address(statuses.address)),
        byref(error),
    )
    if error.status not in {Status.OK, Status.INVALID_USER_ID}:
        raise error_from(error)
    return bool(error.status == Status.OK)


def _run(
    client: BaseClient, ids: pa.Array | pa.ChunkedArray, concurrency: int, timeout: float | None, *, wants_tokens: bool
) -> tuple[pa.Array, list[str | None]]:
    """Return the statuses, and the tokens if they are wanted."""
    statuses = array("i", bytes(4 * len(ids)))
    texts: list[str | None] = [None] * len(ids) if wants_tokens else []
    window = Window(client, _users(ids), concurrency=concurrency, timeout=timeout, wants_tokens=wants_tokens)
    with closing(window.outcomes()) as batches:
        for position, error, token in (outcome for batch in batches for outcome in batch):
            if error is not None:
                statuses[position] = error.status
            elif wants_tokens:
                texts[position] = token
    validity = _validity(ids)
    return pa.Array.from_buffers(pa.int32(), len(ids), [validity, pa.py_buffer(statuses)]), texts


def _users(ids: pa.Array | pa.ChunkedArray) -> Iterator[tuple[int, bytes]]:
    """Yield position and id of each row that is not null."""
    for first in range(0, len(ids), _SLICE):
        users = ids.slice(first, _SLICE).cast(pa.large_binary()).to_pylist()
        for position, user in enumerate(users, first):
            if user is not None:
                yield position, user


def _validity(ids: pa.Array | pa.ChunkedArray) -> pa.Buffer | None:
    if not ids.null_count:
        return None
    valid = ids.is_valid()
    return (valid if isinstance(valid, pa.Array) else pa.concat_arrays(valid.chunks)).buffers()[1]


def _chunked_like(ids: pa.ChunkedArray, statuses: pa.Array) -> pa.ChunkedArray:
    parts, first = [], 0
    for chunk in ids.chunks:
        parts.append(statuses.slice(first, len(chunk)))
        first += len(chunk)
    return pa.chunked_array(parts, pa.int32())
