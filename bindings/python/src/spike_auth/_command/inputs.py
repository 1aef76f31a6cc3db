"""The ids in a file: one a line, a column of a CSV or of a Parquet file. Read as they are needed."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

STDIN = "-"
FORMATS = ("csv", "parquet", "lines")
_LONGEST_LINE = 1 << 20
_BOM = b"\xef\xbb\xbf"


class InputError(Exception):
    """The file cannot be read. The text says why, and what to do."""


class Input(NamedTuple):
    """The rows of a file: the bytes of an id, which are empty for a blank row or a null."""

    rows: Iterator[bytes]
    portion: Callable[[], float | None]
    """How much of the file has been read, from 0 to 1; None if its length is unknown."""


@contextmanager
def open_input(path: str, kind: str | None, column: str | None) -> Generator[Input, None, None]:
    """Open a file, or stdin. Without `kind` its name tells. `column` is by default the first.

    Raises `InputError`, also later from the rows.
    """
    kind = kind or _kind_of(path)
    if kind == "lines" and column is not None:
        raise InputError("--column is for csv and parquet. Leave it out, or add --format csv")
    with ExitStack() as stack:
        try:
            stream = _stdin() if path == STDIN else stack.enter_context(open(path, "rb"))  # noqa: PTH123
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        if kind == "parquet" and not stream.seekable():  # its index is at its end
            pipe, stream = stream, stack.enter_context(TemporaryFile())
            shutil.copyfileobj(pipe, stream)
            stream.seek(0)
        yield _parquet(stream, column) if kind == "parquet" else _text(stream, kind, column)


def _kind_of(path: str) -> str:
    kind = Path(path).suffix.lower().removeprefix(".")
    return kind if path != STDIN and kind in FORMATS else "lines"


def _stdin() -> IO[bytes]:
    if sys.stdin is None:
        raise InputError("cannot read stdin: it is closed")
    return sys.stdin.buffer


def _text(stream: IO[bytes], kind: str, column: str | None) -> Input:
    length = os.fstat(stream.fileno()).st_size if stream.seekable() else 0
    rows = map(bytes.strip, _lines_of(stream)) if kind == "lines" else _csv(stream, column)
    return Input(rows, lambda: min(stream.tell() / length, 1) if length else None)


def _lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines, without a byte order mark. `tell` stays usable, which a text stream would disable."""
    number = 0
    try:
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise InputError(f"line {number} has {_LONGEST_LINE} bytes or more: this is no file of user ids")
            yield line.removeprefix(_BOM) if number == 1 else line
    except OSError as error:
        raise InputError(f"the input cannot be read after line {number}: {error.strerror}") from None


def _csv(stream: IO[bytes], column: str | None) -> Iterator[bytes]:
    records = _records(stream)
    names = next(records, None)
    index = index_of(column, names) if names else 0
    return (fields[index].strip().encode() if index < len(fields) else b"" for fields in records)


def _records(stream: IO[bytes]) -> Iterator[list[str]]:
    table = csv.reader(map(bytes.decode, _lines_of(stream)), strict=True)
    try:
        yield from table
    except UnicodeDecodeError:
        raise InputError(f"the file is not UTF-8 after line {table.line_num}. Convert it") from None
    except csv.Error as error:
        raise InputError(f"the file is no CSV at line {table.line_num}: {error}") from None


def index_of(column: str | None, names: list[str]) -> int:
    """Return where a column is, by default the first."""
    if column is None:
        return 0
    if column not in names:
        raise InputError(f"there is no column {column!r}. The columns are: {', '.join(names)}")
    return names.index(column)


def _parquet(stream: IO[bytes], column: str | None) -> Input:
    try:
        from .parquet import open_parquet  # noqa: PLC0415  pyarrow is an extra
    except ImportError:
        raise InputError("parquet needs pyarrow. Install it: pip install 'spike-auth[arrow]'") from None
    return open_parquet(stream, column)
