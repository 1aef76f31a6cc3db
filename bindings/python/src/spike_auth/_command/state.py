"""The file that remembers which rows are done, so that a command can go on after it was killed.

A header, then one record for each 4096 rows: their number, a checksum of their ids, and one bit for each row that is
done. A record lies within a page and is written with one call, so SIGKILL leaves no part of one. It holds no id.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from struct import Struct

BLOCK = 4096
_HEADER = Struct("<24sII992x")  # magic, version, rows of a block
_RECORD = Struct(f"<I32s{BLOCK // 8}s476x")  # rows, checksum, bits
_BITS_AT = 36
_MAGIC, _VERSION = b"spike_auth provision", 1


class StateError(Exception):
    """The file cannot be used. The text says why, and what to do."""


class OtherInput(StateError):
    """The input is not the one whose rows were recorded."""


@dataclass
class _Block:
    """A block of which rows are under way."""

    bits: bytearray
    left: int
    is_changed: bool = False


class State:
    """The rows that are done. Memory: the blocks that are open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: dict[int, _Block] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"cannot open {path}: {error.strerror}") from None
        try:
            self._recorded = self._check()
        except BaseException:
            os.close(self._file)
            raise

    def admit(self, block: int, ids: Sequence[bytes]) -> list[int]:
        """Open a block, and return which of its rows are to be done. An empty id is none.

        Raises `StateError` if its ids are not those that were recorded.
        """
        bits = self._recorded_bits(block, ids)
        record = _RECORD.pack(len(ids), _checksum(ids), bytes(bits))
        if len(ids) > 0:
            self._write(record, _offset(block))
        rows = [row for row, user in enumerate(ids) if user and not bits[row // 8] >> row % 8 & 1]
        if rows:
            self._open[block] = _Block(bits, len(rows))
        return rows

    def note(self, position: int, *, is_done: bool) -> None:
        """Note that a row has ended; `flush` writes it."""
        block = self._open[position // BLOCK]
        row = position % BLOCK
        block.left -= 1
        block.is_changed = True
        if is_done:
            block.bits[row // 8] |= 1 << row % 8

    def flush(self) -> None:
        """Write what was noted, and close the blocks of which all rows have ended."""
        for number, block in [*self._open.items()]:
            if block.is_changed:
                self._write(bytes(block.bits), _offset(number) + _BITS_AT)
                block.is_changed = False
            if not block.left:
                del self._open[number]

    def end_at(self, rows: int) -> None:
        """Check that the input, which ends after so many rows, did not become shorter."""
        if self._recorded > -(-rows // BLOCK):
            raise OtherInput(f"{self._path} has recorded more rows than the input's {rows}: {_OTHER}")

    def close(self) -> None:
        """Close the file. Another command can use it from now on."""
        os.close(self._file)

    def _check(self) -> int:
        """Lock the file, check or write its header, and return the number of records."""
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise StateError(f"{self._path} is not a file. Name another one")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"another command uses {self._path}. Wait for it, or name another file") from None
        if not os.fstat(self._file).st_size:
            self._begin()
        head = os.pread(self._file, _HEADER.size, 0)
        if len(head) < _HEADER.size or _HEADER.unpack(head)[0].rstrip(b"\0") != _MAGIC:
            raise StateError(f"{self._path} is no state of this command, and was not changed. Name another file")
        if _HEADER.unpack(head)[1:] != (_VERSION, BLOCK):
            raise StateError(f"{self._path} was written by another version of spike_auth, and was not changed")
        return (os.fstat(self._file).st_size - _HEADER.size) // _RECORD.size

    def _begin(self) -> None:
        try:
            self._write(_HEADER.pack(_MAGIC, _VERSION, BLOCK), 0)
        except StateError:
            os.ftruncate(self._file, 0)  # half a header would be refused later
            raise

    def _recorded_bits(self, block: int, ids: Sequence[bytes]) -> bytearray:
        if block >= self._recorded:
            return bytearray(BLOCK // 8)
        count, checksum, bits = _RECORD.unpack(os.pread(self._file, _RECORD.size, _offset(block)))
        first = block * BLOCK + 1
        if not 0 < count <= BLOCK or int.from_bytes(bits, "little") >> count:
            raise OtherInput(f"{self._path} is broken where rows {first} to {first + BLOCK - 1} stand. {_OTHER}")
        # A file that has grown at its end: the rows that were there are compared.
        if count > len(ids) or _checksum(ids[:count]) != checksum:
            raise OtherInput(f"rows {first} to {first + count - 1} are not those that {self._path} recorded. {_OTHER}")
        return bytearray(bits)

    def _write(self, data: bytes, offset: int) -> None:
        try:
            is_whole = os.pwrite(self._file, data, offset) == len(data)
            reason = "" if is_whole else "No space left on device"
        except OSError as error:
            reason = str(error.strerror)
        if reason:
            raise StateError(f"cannot write {self._path}: {reason}. What it holds is kept")


_OTHER = "Give the input that it was made with, or name another file for this one"


def is_same_file(path: str, other: str) -> bool:
    """Return whether both are one file."""
    try:
        return Path(path).samefile(other)
    except OSError:
        return False


def _offset(block: int) -> int:
    return _HEADER.size + block * _RECORD.size


def _checksum(ids: Sequence[bytes]) -> bytes:
    digest = blake2b(digest_size=32)
    for user in ids:
        digest.update(len(user).to_bytes(8, "little") + user)
    return digest.digest()
