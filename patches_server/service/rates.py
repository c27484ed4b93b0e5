"""How much at a time: token buckets per peer."""

from __future__ import annotations


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once; a rate of `None` never runs out.

    Pure: the time is an argument.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float | None, burst: float, *, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), now

    def take(self, amount: float, *, now: float, scale: float = 1.0) -> float:
        """Take tokens; 0 when they were there, else the seconds until they will be.

        `scale` multiplies rate and burst for this call. One call may take more than the burst when
        the bucket is full, so that nothing waits for ever.
        """
        if self._rate is None:
            return 0.0
        rate, burst = self._rate * scale, self._burst * scale
        self._tokens = min(burst, self._tokens + (now - self._at) * rate)
        self._at = now
        needed = min(amount, burst)
        if self._tokens >= needed:
            self._tokens -= amount
            return 0.0
        return (needed - self._tokens) / rate
