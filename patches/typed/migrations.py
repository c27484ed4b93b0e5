"""`Migrations`: how a document of an older shape becomes one of the newest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from patches.documents.draft import record
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.model.json_values import Json, Op


@dataclass(frozen=True, slots=True)
class Migrations:
    """The steps from each shape to the next.

    `at` is where a document says which shape it has; one that does not say so has shape 1.
    `steps[n]` edits a draft of shape n so that it has shape n + 1. Two clients may make a step at
    the same time, so a step only sets and removes members of objects, to values that it works out
    from the document: no clock, no randomness, nothing appended or incremented.
    `patches.testing.check_migrations` tries that.
    """

    current: int
    at: str = "/v"
    steps: Mapping[int, Callable[[Any], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.current < 1 or set(self.steps) != set(range(1, self.current)):
            raise ValueError(
                f"Migrations to shape {self.current} need the steps "
                f"{list(range(1, self.current))}, got {sorted(self.steps)}"
            )
        if len(pointer.parse(self.at)) != 1:
            raise ValueError(f"Migrations.at is a member of the document, not {self.at!r}")

    def shape_of(self, raw: Json) -> int:
        """The shape of a state. Raises `PatchError` for a state that is no object."""
        found = pointer.value_at(raw, self.at)
        return 1 if found is ABSENT or not isinstance(found, int) else int(found)

    def ops_for(self, raw: Json) -> list[Op]:
        """The operations that lead a state to the current shape; `[]` if it has it."""
        shape, state, ops = self.shape_of(raw), raw, []
        if shape >= self.current:
            return []
        for step in range(max(shape, 1), self.current):
            made = record(state, self.steps[step])
            state = apply_patch(state, made, strict=True)
            ops += made
        # The greatest of several stays, so that programs that migrate at once agree.
        return [*ops, {"op": "@max", "path": self.at, "value": self.current}]
