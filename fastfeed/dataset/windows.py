"""Windows over a token stream: which tokens each row of a view is. Pure arithmetic."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from fastfeed.dataset.manifest import BLOCK_BYTES
from fastfeed.errors import ConfigError

# A window is one value of a batch, and a value is at most 2^31 - 1 bytes (docs/format.md, section 7).
WINDOW_TOKENS_MAX = (1 << 29) - 1


@dataclass(frozen=True, slots=True)
class Window:
    """Row i is `length` tokens from token i * stride on."""

    length: int
    stride: int

    @classmethod
    def checked(cls, length: int, stride: int | None) -> Window:
        """The window that the arguments of `Dataset.windows` mean. ConfigError where they mean none."""
        length = operator.index(length)
        stride = length if stride is None else operator.index(stride)
        if not 1 <= length <= WINDOW_TOKENS_MAX or not 1 <= stride < 1 << 62:
            raise ConfigError(
                f"windows({length}, stride={stride}): a window has 1 to {WINDOW_TOKENS_MAX} tokens, and the next one "
                "begins at least 1 token later."
            )
        return cls(length, stride)

    def count(self, tokens: int) -> int:
        """Whole windows in a stream of `tokens`."""
        return (tokens - self.length) // self.stride + 1 if tokens >= self.length else 0

    def block_rows(self, token_bytes: int) -> int:
        """Windows a block: those that bring about BLOCK_BYTES of tokens that no other window has."""
        return max(1, BLOCK_BYTES // (min(self.length, self.stride) * token_bytes))
