"""How many batches are on their way: as few as keep the consumer from waiting, within a budget of bytes.

Pure bookkeeping: no clock, not thread-safe. It decides when things are read, never what comes out.

More batches ahead help in one case: the consumer waited although the threads had nothing to do, because reading or the
consumer is uneven, or because batches are so small that handing them over is what takes time. Where the threads were
always at work, they are the limit, and where nobody waited, there is nothing to gain: both times more batches would
only cost memory. So the depth grows when waiting and idleness come together, and never shrinks but with the budget.
"""

from __future__ import annotations

# Two: one is read while the other is used. More than 64 batches ahead hide no stall that 64 do not.
DEPTH_MIN = 2
DEPTH_MAX = 64
# As many batches as fit into this are asked for from the beginning: it is less than one batch of photographs.
FREE_BYTES = 8 << 20
# Steps between two decisions: a cold start needs few of them, and one slow step is not a habit.
WINDOW_STEPS = 4
# Less waiting or idleness than this part of the time is not worth a batch of memory.
SHARE_MIN = 0.02


class Depth:
    """budget_bytes: of finished batches. least: also where the budget is smaller. `threads` decode."""

    def __init__(self, budget_bytes: int, threads: int, least: int = DEPTH_MIN) -> None:
        self._budget_bytes, self._threads, self._least = budget_bytes, threads, least
        self._wanted = least
        self._steps = 0
        self._wait_s = self._elapsed_s = 0.0
        self._idle_before_s = 0.0

    def batches(self, batch_bytes: int) -> int:
        """How many to have on their way. `batch_bytes`: of a mean one; 0: none is known, so the least."""
        if not batch_bytes:
            return self._least
        limit = min(self._budget_bytes // batch_bytes, DEPTH_MAX)
        return max(self._least, min(max(self._wanted, FREE_BYTES // batch_bytes), limit))

    def step(self, wait_s: float, work_s: float) -> bool:
        """The consumer worked for `work_s`, then waited for `wait_s`. True where it is time to decide()."""
        self._steps += 1
        self._wait_s += wait_s
        self._elapsed_s += wait_s + work_s
        return self._steps >= WINDOW_STEPS

    def decide(self, idle_s: float, batch_bytes: int) -> None:
        """`idle_s`: thread-seconds in which decoders had nothing to do, since the reader was made."""
        worth_s = SHARE_MIN * self._elapsed_s
        idle_each_s = (idle_s - self._idle_before_s) / self._threads
        if self._wait_s > worth_s and idle_each_s > worth_s:
            depth = self.batches(batch_bytes)
            self._wanted = depth + max(1, depth // 2)
        self._steps, self._wait_s, self._elapsed_s, self._idle_before_s = 0, 0.0, 0.0, idle_s
