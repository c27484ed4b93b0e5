"""What moving a queue behind a history costs. CPU time, the smallest of a few rounds.

`python -m benchmarks.walk` prints a table. To compare two checkouts, run both in turn on one
machine and take the ratios.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from patches.algorithms.ot.walk import TransformWalk
from patches.model.json_values import Op

Program = list[Op]
_ROUNDS: Final = 3


def main() -> None:
    """Print the table."""
    print("| queue x history | CPU ms |\n| --- | --- |")
    for title, make, queued, committed in (
        ("a letter and a counter, 3 x 1", a_letter_and_a_counter, 3, 1),
        ("a letter and a counter, 300 x 300", a_letter_and_a_counter, 300, 300),
        ("edits of one text, 10 x 1", an_edit, 10, 1),
        ("edits of one text, 1,000 x 1,000", an_edit, 1_000, 1_000),
        ("fields and letters, 10,000 x 1,000", a_field_or_a_letter, 10_000, 1_000),
    ):
        cost = min(measured(make, queued, committed) for _ in range(_ROUNDS))
        print(f"| {title} | {cost * 1e3:.3f} |", flush=True)


def measured(make: Callable[[random.Random, str], Program], queued: int, committed: int) -> float:
    """Seconds of one walk; of small ones, the mean of many."""
    rng = random.Random(queued)
    repeats = max(1, 3_000 // (queued * committed))
    cases = [
        (
            [make(rng, "mine") for _ in range(queued)],
            [make(rng, "theirs") for _ in range(committed)],
        )
        for _ in range(repeats)
    ]
    start = time.process_time()
    for queue, history in cases:
        walk = TransformWalk(queue)
        for ops in history:
            walk.follow(ops)
        walk.programs()
    return (time.process_time() - start) / repeats


def a_letter(rng: random.Random) -> Op:
    """A letter typed somewhere in a text."""
    parts = [{"retain": rng.randrange(1, 2_000)}, {"insert": "a"}]
    return {"op": "@txt", "path": "/body", "value": parts}


def a_letter_and_a_counter(rng: random.Random, key: str) -> Program:
    """Two edits in one change."""
    return [a_letter(rng), {"op": "@inc", "path": f"/{key}", "value": 1}]


def an_edit(rng: random.Random, _: str) -> Program:
    """A letter typed or taken back."""
    if rng.random() < 0.7:
        return [a_letter(rng)]
    parts = [{"retain": rng.randrange(1, 2_000)}, {"delete": 1}]
    return [{"op": "@txt", "path": "/body", "value": parts}]


def a_field_or_a_letter(rng: random.Random, key: str) -> Program:
    """A field or a letter, and a counter."""
    field: Op = {"op": "replace", "path": f"/cells/x{rng.randrange(50)}", "value": 1}
    edit = a_letter(rng) if rng.random() < 0.5 else field
    return [edit, {"op": "@inc", "path": f"/{key}", "value": 1}]


if __name__ == "__main__":
    main()
