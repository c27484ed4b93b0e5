from __future__ import annotations

import pytest

from patches.algorithms.collections.cursor import following
from patches.errors import MissingChangesError
from patches.model.change import Change


def change(base_rev: int, rev: int) -> Change:
    return Change(id=f"c{rev}", ops=[], base_rev=base_rev, rev=rev, created_at=1)


@pytest.mark.parametrize(
    ("cursor", "spans", "taken"),
    [
        pytest.param(3, [], [], id="nothing"),
        pytest.param(3, [(3, 4)], [4], id="the next"),
        pytest.param(3, [(2, 3)], [], id="known already"),
        pytest.param(3, [(1, 9)], [9], id="one that begins before the cursor"),
        pytest.param(3, [(3, 7), (7, 9)], [7, 9], id="with holes in the revisions"),
        pytest.param(3, [(2, 3), (3, 4), (3, 4), (4, 5)], [4, 5], id="repeated"),
        pytest.param(3, [(3, 6), (4, 5), (6, 7)], [6, 7], id="one inside another"),
        pytest.param(0, [(0, 5)], [5], id="from the start"),
    ],
)
def test_which_changes_are_taken(
    cursor: int, spans: list[tuple[int, int]], taken: list[int]
) -> None:
    changes = [change(*span) for span in spans]
    assert [each.rev for each in following(changes, cursor)] == taken


@pytest.mark.parametrize("spans", [[(4, 5)], [(3, 4), (6, 7)], [(2, 3), (5, 6)]])
def test_a_gap_takes_nothing(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(MissingChangesError) as caught:
        following([change(*span) for span in spans], 3)
    assert caught.value.since_rev == 3
