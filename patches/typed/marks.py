"""Field types for which Python has no notation: a number that is counted, one of any size."""

from __future__ import annotations

from typing import Annotated, Final


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


COUNTER_MARK: Final = _Mark("Counter")
BIG_INT_MARK: Final = _Mark("BigInt")

#: An `int`: in a draft `draft.views += 3` is an increment, and concurrent ones add up.
Counter = Annotated[int, COUNTER_MARK]
#: An `int` of any size, written as a decimal string.
BigInt = Annotated[int, BIG_INT_MARK]
