"""Waits before the next attempt: pure functions of the attempt and a random number from 0 to 1.

Every wait is shortened by up to 20 % at random, so that clients that were cut off together do not
come back together.
"""

from __future__ import annotations

from typing import Final

RECONNECT_FIRST_S: Final = 1.0
RECONNECT_FACTOR: Final = 1.5
RECONNECT_MAX_S: Final = 30.0
#: The wait after a refused sign-in: it does not get better by asking at once.
SIGN_IN_AGAIN_S: Final = 30.0
#: A connection that lived this long, and answered, starts the reconnect waits over.
HEALTHY_AFTER_S: Final = 10.0

JITTER: Final = 0.2


def jittered(wait_s: float, jitter: float) -> float:
    """`wait_s`, minus up to 20 %."""
    return wait_s * (1.0 - JITTER * jitter)


def reconnect_wait(attempt: int, jitter: float, *, signed_in: bool = True) -> float:
    """Seconds before the attempt after failure number `attempt` (from 0) in a row.

    `signed_in`: false if the server refused the sign-in.
    """
    if not signed_in:
        return jittered(SIGN_IN_AGAIN_S, jitter)
    longest = min(attempt, 32)  # the cap is reached long before, and powers stay finite
    wait_s = min(RECONNECT_FIRST_S * RECONNECT_FACTOR**longest, RECONNECT_MAX_S)
    return jittered(wait_s, jitter)
