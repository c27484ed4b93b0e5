"""What a caller says of its copy, and which copies are of another history."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import OtherHistoryError
from patches_server.documents.history import (
    KnownHistory,
    known_history,
    require_same_change,
    require_same_history,
)


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, None),
        ({"last": [1, "a"]}, None),
        ({"token": None}, KnownHistory()),
        ({"token": "e.1"}, KnownHistory("e.1")),
        ({"token": "e.1", "last": [3, "a"]}, KnownHistory("e.1", 3, "a")),
        ({"token": None, "last": [3, "a"]}, KnownHistory(None, 3, "a")),
        ({"token": 7, "last": [True, "a"]}, KnownHistory()),
        ({"token": {}, "last": [3]}, KnownHistory()),
        ({"token": "", "last": [3.5, "a"]}, KnownHistory("")),
    ],
)
def test_options_say_what_a_caller_knows(
    options: dict[str, Any], known: KnownHistory | None
) -> None:
    assert known_history(options) == known


@pytest.mark.parametrize(
    ("known", "token", "head", "rev", "is_same"),
    [
        (KnownHistory(), None, 0, 0, True),
        (KnownHistory(), "e.1", 3, 3, True),
        (KnownHistory(), "e.1", 3, 4, False),
        (KnownHistory(None, 4, "a"), "e.1", 3, 0, False),
        (KnownHistory("e.1"), "e.1", 3, 3, True),
        (KnownHistory("e.1"), "e.2", 3, 1, False),
        (KnownHistory("e.1"), None, 0, 0, False),
        (KnownHistory("e.1"), "e.1", 3, 4, False),
    ],
)
def test_a_copy_is_of_the_history_of_its_token_and_not_ahead_of_it(
    known: KnownHistory, token: str | None, head: int, rev: int, is_same: bool
) -> None:
    if is_same:
        require_same_history("d", known, token=token, head_rev=head, rev=rev)
        return
    with pytest.raises(OtherHistoryError) as caught:
        require_same_history("d", known, token=token, head_rev=head, rev=rev)
    assert (caught.value.code, caught.value.data) == (409, {"scope": "doc", "reason": "HISTORY"})


def test_the_newest_change_of_a_copy_must_be_the_one_at_its_revision() -> None:
    known = KnownHistory("e.1", 3, "mine")
    require_same_change("d", known, "mine")
    require_same_change("d", known, None)
    with pytest.raises(OtherHistoryError):
        require_same_change("d", known, "other")
