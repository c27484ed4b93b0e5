from __future__ import annotations

import pytest

from patches.algorithms.collections.sending import fitting
from patches.errors import UnsplittableChangeError
from patches.limits import Limits
from patches.model.change import Change
from patches.options import DocOptions
from patches.rows.row_ops import insert_op


def write(number: int, size: int = 10) -> Change:
    op = insert_op("tasks", "a", {"id": "a", "title": "x" * size})
    return Change(id=f"w{number}", ops=[op], base_rev=1, rev=2, created_at=1)


PENDING = [write(number) for number in range(4)]
SIZE = len(PENDING[0].encoded) + 1


@pytest.mark.parametrize(
    ("max_bytes", "max_changes", "count"),
    [
        pytest.param(None, 10, 4, id="all of them"),
        pytest.param(None, 3, 3, id="as many as a commit may have"),
        pytest.param(2 * SIZE, 10, 2, id="as many as fit"),
        pytest.param(2 * SIZE - 1, 10, 1, id="one less"),
        pytest.param(SIZE, 10, 1, id="one"),
    ],
)
def test_the_first_writes_that_fit(max_bytes: int | None, max_changes: int, count: int) -> None:
    options = DocOptions(max_payload_bytes=max_bytes)
    batch = fitting(PENDING, options, Limits(max_changes_per_commit=max_changes))
    assert batch == PENDING[:count]


def test_a_write_that_no_commit_can_hold_is_named() -> None:
    with pytest.raises(UnsplittableChangeError) as caught:
        fitting([write(1, 500), write(2)], DocOptions(max_payload_bytes=300), Limits())
    assert caught.value.change_id == "w1"
