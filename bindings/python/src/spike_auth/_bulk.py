"""A list of texts as the library takes it, and what it wrote as a list of texts: the quickest ways that were found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from struct import Struct, pack_into, unpack_from

from ._prototypes import SIGNATURE_SIZE

SIGNATURE_LEN = SIGNATURE_SIZE - 1

# So many at once: nearly as quick as all at once, and nothing large in between.
_BATCH = 128
_TEXTS = Struct(f"{SIGNATURE_LEN}s" * _BATCH)


def offsets_of(texts: Sequence[str]) -> bytearray:
    """Where each begins, and where the last one ends, as int64_t.

    In characters, which are bytes up to the first one beyond ASCII; the text that it is in is refused.
    """
    offsets = bytearray(8 * (len(texts) + 1))
    pack_into(f"={len(texts)}q", offsets, 8, *accumulate(map(len, texts)))
    return offsets


def cut(signatures: bytearray) -> list[str]:
    """The signatures that lie there one after the other."""
    with memoryview(signatures) as all_of_them:
        batches = len(signatures) // _TEXTS.size * _TEXTS.size
        found: list[str] = []
        for batch in _TEXTS.iter_unpack(all_of_them[:batches]):
            found += map(bytes.decode, batch)
        rest = f"{SIGNATURE_LEN}s" * ((len(signatures) - batches) // SIGNATURE_LEN)
        found += map(bytes.decode, unpack_from(rest, all_of_them, batches))
        return found
