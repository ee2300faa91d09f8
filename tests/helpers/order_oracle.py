"""The order written once more from docs/order.md, in plain Python: slow, obvious, independent of csrc.

Nothing of fastfeed is imported. Values are Python integers; `& MASK` stands where the specification says modulo 2^64
or 2^32.
"""

from __future__ import annotations

from dataclasses import dataclass

ORDER_VERSION = 2
MASK64 = 2**64 - 1
MASK32 = 2**32 - 1
GOLDEN64 = 0x9E3779B97F4A7C15
GOLDEN32 = 0x9E3779B9
LEVEL_FULL, LEVEL_TURN, LEVEL_GROUP, LEVEL_BLOCK, LEVEL_ROW = range(5)


def mix64(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK64
    return z ^ z >> 31


def derive(key: int, index: int) -> int:
    return mix64((key + (index + 1) * GOLDEN64) & MASK64)


def level_key(seed: int, epoch: int, level: int) -> int:
    return derive(derive(derive(ORDER_VERSION, seed), epoch), level)


def shuffled_table(m: int, key: int) -> list[int]:
    table = list(range(m))
    for i in range(m - 1, 0, -1):
        j = derive(key, i) * (i + 1) >> 64
        table[i], table[j] = table[j], table[i]
    return table


def _round(key32: int, number: int, half: int, bits: int) -> int:
    z = (half + key32 + number * GOLDEN32) * 0x7FEB352D & MASK32
    z ^= z >> 16
    z = z * 0x846CA68B & MASK32
    return z >> (32 - bits)


def _network(m: int, key: int, value: int, rounds: list[int]) -> int:
    bits = (m - 1).bit_length()
    right_bits = bits // 2
    left_bits = bits - right_bits
    left, right = value >> right_bits, value % 2**right_bits
    for number in rounds:
        if number % 2 == 0:
            left ^= _round(key & MASK32, number, right, left_bits)
        else:
            right ^= _round(key >> 32, number, left, right_bits)
    return left << right_bits | right


def permute(m: int, key: int, value: int) -> int:
    if m <= 256:
        return shuffled_table(m, key)[value]
    while True:
        value = _network(m, key, value, list(range(8)))
        if value < m:
            return value


def unpermute(m: int, key: int, value: int) -> int:
    if m <= 256:
        return shuffled_table(m, key).index(value)
    while True:
        value = _network(m, key, value, list(range(7, -1, -1)))
        if value < m:
            return value


@dataclass(frozen=True)
class OracleOrder:
    n: int
    seed: int
    epoch: int
    shuffle: str | bool
    shuffle_window: int
    block_rows: int

    def _holds_all(self) -> bool:
        return self.shuffle == "full" or self.shuffle_window >= self.n // self.block_rows

    def _full_key(self) -> int:
        return derive(level_key(self.seed, self.epoch, LEVEL_FULL), 0)

    def _block_key(self) -> int:
        return derive(level_key(self.seed, self.epoch, LEVEL_BLOCK), 0)

    def _row_key(self, block: int) -> int:
        return derive(level_key(self.seed, self.epoch, LEVEL_ROW), block)

    def _turn(self) -> int:
        return derive(level_key(self.seed, self.epoch, LEVEL_TURN), 0) * self.n >> 64

    def _group(self, p: int) -> tuple[int, int, int]:
        """First position, size and key of the group that position p is in."""
        size = min(8, self.shuffle_window) * self.block_rows
        number = min(p // size, self.n // size - 1)
        is_last = number == self.n // size - 1
        return (number * size, self.n - number * size if is_last else size,
                derive(level_key(self.seed, self.epoch, LEVEL_GROUP), number))

    def row(self, p: int) -> int:
        if self.shuffle is False:
            return p
        if self._holds_all():
            return permute(self.n, self._full_key(), p)
        k, w = self.block_rows, self.shuffle_window
        b, t = divmod(self.n, k)
        start, size, key = self._group(p)
        e = (start + permute(size, key, p - start) - self._turn()) % self.n
        if e < t:
            return b * k + e
        slot, r = divmod(e - t, k)
        block = permute(b, self._block_key(), (slot - r * w // k) % b)
        return block * k + permute(k, self._row_key(block), r)

    def position(self, row: int) -> int:
        if self.shuffle is False:
            return row
        if self._holds_all():
            return unpermute(self.n, self._full_key(), row)
        k, w = self.block_rows, self.shuffle_window
        b, t = divmod(self.n, k)
        if row >= b * k:
            e = row - b * k
        else:
            block, x = divmod(row, k)
            r = unpermute(k, self._row_key(block), x)
            e = t + (unpermute(b, self._block_key(), block) + r * w // k) % b * k + r
        p = (e + self._turn()) % self.n
        start, size, key = self._group(p)
        return start + unpermute(size, key, p - start)
