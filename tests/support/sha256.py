"""What SHA-256 has in its middle, which hashlib does not show: the states that HMAC starts from."""

import hashlib
import struct

BLOCK = 64
INNER, OUTER = 0x36, 0x5C


def _root(number: int, power: int) -> int:
    """The first 32 fractional bits of a root."""
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**power <= number << (32 * power) else (low, middle)
    return low & 0xFFFFFFFF


_PRIMES = [number for number in range(2, 312) if all(number % other for other in range(2, number))]
_INITIAL = tuple(_root(prime, 2) for prime in _PRIMES[:8])
_CONSTANTS = [_root(prime, 3) for prime in _PRIMES]


def _xor_rotated(word: int, *counts: int) -> int:
    result = 0
    for count in counts:
        result ^= (word >> count | word << (32 - count)) & 0xFFFFFFFF
    return result


def compress(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    """The compression function (FIPS 180-4, 6.2.2); an empty state is the initial one."""
    state = state or _INITIAL
    words = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        small = _xor_rotated(words[i - 15], 7, 18) ^ words[i - 15] >> 3
        large = _xor_rotated(words[i - 2], 17, 19) ^ words[i - 2] >> 10
        words.append((words[i - 16] + small + words[i - 7] + large) & 0xFFFFFFFF)
    a, b, c, d, e, f, g, h = state
    for constant, word in zip(_CONSTANTS, words, strict=True):
        one = h + _xor_rotated(e, 6, 11, 25) + (e & f ^ ~e & g) + constant + word
        two = _xor_rotated(a, 2, 13, 22) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (one + two) & 0xFFFFFFFF, a, b, c, (d + one) & 0xFFFFFFFF, e, f, g
    return tuple((old + new) & 0xFFFFFFFF for old, new in zip(state, (a, b, c, d, e, f, g, h), strict=True))


def hmac_blocks(key: bytes) -> list[bytes]:
    """The two blocks that HMAC makes of a key (RFC 2104, 2)."""
    whole = key if len(key) <= BLOCK else hashlib.sha256(key).digest()
    padded = whole.ljust(BLOCK, b"\0")
    return [bytes(byte ^ pad for byte in padded) for pad in (INNER, OUTER)]


def hmac_states(key: bytes) -> list[tuple[int, ...]]:
    """The states after these blocks: who has them signs as the key does."""
    return [compress((), block) for block in hmac_blocks(key)]
