"""Parts and windows against a plain list: what a commit does to them is the difference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from patches.algorithms.collections.ordering import rank_of
from patches.errors import StatusError
from patches.rows import F, claim
from patches.rows.row_ops import Row
from patches_server.collections.engines.engine import Touched, Transaction, Where
from patches_server.collections.parts import NOTHING, Part, PartChange, Window, part_id
from tests.server.collections.board import new_declaration

CARDS = new_declaration().table_of("cards")
ORDER = (("votes", True), ("category", False))


class Cards:
    """The rows of a table, as a transaction selects them."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {str(row["id"]): row for row in rows}

    def select(
        self,
        where: Where,
        *,
        order: Sequence[tuple[str, bool]] = (),
        limit: int | None = None,
        after: int = 0,
    ) -> list[Row]:
        rank = rank_of(tuple(order))
        fitting = [row for row in self.rows.values() if where.matches(row)]
        return sorted(fitting, key=lambda row: rank(str(row["id"]), row))[after:][:limit]

    def write(self, key: str, row: Row | None) -> Touched:
        """One commit of one row."""
        touched = Touched(rows={"cards": {key: row}})
        if row is None:
            self.rows.pop(key, None)
        else:
            if key not in self.rows:
                touched.born.add(("cards", key))
            self.rows[key] = row
        return touched


def as_tx(cards: Cards) -> Transaction:
    return cast(Transaction, cards)


def card(key: str, category: str = "a", votes: int | None = 0) -> Row:
    return {"id": key, "category": category, "votes": votes}


def test_a_part_without_conditions_has_every_row_and_remembers_no_keys() -> None:
    cards = Cards(card("1"))
    part = Part(Where(CARDS))
    assert part.load(as_tx(cards), None) == [card("1")]
    assert part.has("anything")
    assert part.absorb(as_tx(cards), cards.write("2", card("2"))).adds == {"2": card("2")}
    assert part.absorb(as_tx(cards), cards.write("2", None)).removes == {"2"}


def test_a_row_that_was_made_and_deleted_in_one_commit_is_nothing_to_a_part() -> None:
    cards, part = Cards(), Part(Where(CARDS))
    touched = Touched(rows={"cards": {"1": None}}, born={("cards", "1")})
    assert part.absorb(as_tx(cards), touched) == PartChange()


def test_a_row_that_leaves_a_part_is_removed_for_those_who_have_it_only() -> None:
    cards = Cards(card("1", "a"), card("2", "b"))
    part = Part(Where(CARDS, (F.category == "a",)))
    part.load(as_tx(cards), None)
    assert (part.has("1"), part.has("2")) == (True, False)
    assert part.absorb(as_tx(cards), cards.write("2", card("2", "c"))) == PartChange()
    assert part.absorb(as_tx(cards), cards.write("1", card("1", "b"))).removes == {"1"}
    assert not part.has("1")


def test_too_many_rows_are_refused_with_the_limit_s_name() -> None:
    with pytest.raises(StatusError) as refused:
        Part(Where(CARDS)).load(as_tx(Cards(card("1"), card("2"))), 1)
    assert (refused.value.code, refused.value.data) == (413, {"limit": "max_subset_rows"})


def test_conditions_with_other_claims_or_types_make_other_parts() -> None:
    mine = (F.category == claim.user_id,)
    ann, ben = (Where(CARDS, mine, {"user_id": name}) for name in ("ann", "ben"))
    assert part_id(ann) == part_id(Where(CARDS, mine, {"user_id": "ann"})) != part_id(ben)
    assert part_id(ann, ORDER, 5) != part_id(ann, ORDER, 6) != part_id(ann)
    one, true = (Where(CARDS, (F.votes == value,)) for value in (1, True))
    assert part_id(one) != part_id(true)


def applied(known: dict[str, Row], change: PartChange) -> dict[str, Row]:
    return {key: row for key, row in {**known, **change.adds}.items() if key not in change.removes}


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("conditions", [(), (F.category == "a",)], ids=["all", "some"])
def test_random_commits_leave_a_window_with_exactly_the_first_rows(
    seed: int, conditions: tuple[Any, ...]
) -> None:
    rng = random.Random(seed)
    cards = Cards(*(card(str(key), rng.choice("ab"), rng.randrange(6)) for key in range(8)))
    where = Where(CARDS, conditions)
    window, part = Window(where, ORDER, 3), Part(where)
    known = {str(row["id"]): row for row in window.load(as_tx(cards), None)}
    rows = {str(row["id"]): row for row in part.load(as_tx(cards), None)}
    for _ in range(60):
        key = str(rng.randrange(12))
        votes = rng.choice([None, *range(6)])
        row = None if rng.random() < 0.3 else card(key, rng.choice("ab"), votes)
        touched = cards.write(key, row)
        change = window.absorb(as_tx(cards), touched)
        first = cards.select(where, order=ORDER, limit=3)
        known = applied(known, change)
        assert known == {str(each["id"]): each for each in first}
        assert window.contents() == [str(each["id"]) for each in first]
        assert change.keys in (None, window.contents())
        if change is NOTHING:
            assert key not in known
        rows = applied(rows, part.absorb(as_tx(cards), touched))
        assert rows == {str(each["id"]): each for each in cards.select(where)}
