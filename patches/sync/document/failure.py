"""`Failure`: what stops a document, and when its next attempt is due."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure that no success has followed. `error` is shown; `None`: merely interrupted."""

    error: Exception | None
    failed_at: float  # of the event loop's clock, as `until`
    until: float | None  # the next attempt; `None`: only when something new happens
    attempt: int = 0  # failures of this ladder
    used_up: bool = False  # the ladder has ended: waits for a re-probe
    is_final: bool = False  # waiting cannot cure it
    least_wait: float = 0.0  # seconds that the server asked for

    @property
    def lasts(self) -> bool:
        """Whether waiting alone does not help: no attempt is due soon, or none at all."""
        return self.is_final or self.used_up or self.until is None

    def is_over(self, now: float) -> bool:
        """Whether the next attempt is due."""
        return self.until is not None and now >= self.until
