"""`check_migrations` and `check_codec`: checks that a program's own tests run.

A step of a migration is made by every client that opens an older document, also by two at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from patches.documents.draft import ops_to_reach, record
from patches.json_patch import apply_patch, transform_patch
from patches.model.codec import decode, encode
from patches.model.json_values import Json, Op, json_equal
from patches.typed.codecs import CODECS
from patches.typed.converter import Codec
from patches.typed.migrations import Migrations


def check_migrations(migrations: Migrations, samples: Iterable[Json]) -> None:
    """Run each step twice at once on each sample, alone and beside an edit of somebody else.

    Samples are documents of any older shape. Raises `AssertionError`, naming the step and the path
    that two concurrent runs make different from one.
    """
    for sample in samples:
        state = sample
        for step in range(migrations.shape_of(sample), migrations.current):
            function = migrations.steps[step]
            once = record(state, function)
            if not json_equal(once, record(state, function)):
                raise AssertionError(f"step {step} does another thing each time it runs: {once}")
            foreign: list[list[Op]] = [
                [],
                [{"op": "replace", "path": "/another", "value": "program"}],
            ]
            for edit in foreign:
                _check_twice(step, function, state, edit)
            state = apply_patch(state, once, strict=True)


def _check_twice(step: int, function: Any, state: Json, edit: list[Op]) -> None:
    """One client makes the step; the other has made `edit`, and the step after it."""
    first, edited = record(state, function), apply_patch(state, edit, strict=True)
    second = record(edited, function)
    alone = apply_patch(edited, second, strict=True)
    behind = transform_patch(state, first, [*edit, *second])
    under_ot = apply_patch(apply_patch(state, first, strict=True), behind)
    under_lww = apply_patch(alone, first)
    for together in (under_ot, under_lww):
        for op in ops_to_reach(alone, together, text=False):
            raise AssertionError(
                f"step {step}: two clients that make it at once differ from one at {op['path']!r}; "
                f"a step only sets and removes members of objects"
            )


def check_codec(cls: type, values: Iterable[Any], codec: Codec | None = None) -> None:
    """Check that values survive being written, stored as JSON and read. Raises `AssertionError`."""
    used = codec or CODECS[cls]
    for value in values:
        written = used.encode(value)
        read = used.decode(decode(encode(written)))
        if read != value or type(read) is not type(value):
            raise AssertionError(f"{value!r} is written as {written!r} and read as {read!r}")
