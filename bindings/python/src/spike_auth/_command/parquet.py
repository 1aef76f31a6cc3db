"""The ids in a Parquet file, read in batches."""

# pyarrow has no types.
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow import bytes_of
from .inputs import Input, InputError, index_of

_ROWS_AT_ONCE = 4096


def open_parquet(stream: IO[bytes], column: str | None) -> Input:
    """Open a column of a file, by default the first."""
    try:
        file = pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the input is no Parquet file: {error}") from None
    names = file.schema_arrow.names
    if not names:
        raise InputError("the Parquet file has no column")
    reader, total = _Reader(file, names[index_of(column, names)]), file.metadata.num_rows
    return Input(reader.rows(), lambda: reader.read / total if total else None)


class _Reader:
    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name
        self.read = 0

    def rows(self) -> Iterator[bytes]:
        try:
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=[self._name]):
                self.read += len(batch)
                yield from (user.strip() if user else b"" for user in bytes_of(batch.column(0)))
        except TypeError as error:
            raise InputError(f"column {self._name!r}: {error}") from None
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"the Parquet file cannot be read after row {self.read}: {error}") from None
