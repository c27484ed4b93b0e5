"""Ids and metadata, as clients and servers check them."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import OpsRefusedError, PatchError
from patches.limits import Limits
from patches.model.request_checks import check_doc_id, check_metadata, checked_metadata, id_fault


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "must be a string, not null"),
        (b"a", "must be a string, not a bytes"),
        (["a"], "must be a string, not a list"),
        ("", "must not be empty"),
        ("ab\0", "must have no control characters, found U+0000 at 2"),
        ("\x9f", "must have no control characters, found U+009F at 0"),
        ("é\ud83d", "must have no lone surrogates, found U+D83D at 1"),
        ("é" * 5, "has 10 bytes, at most 9 are allowed"),
        ("x" * 10, "has 10 bytes, at most 9 are allowed"),
        ("x" * 9, None),
        ("é" * 4, None),
        ("\xa0", None),
    ],
)
def test_what_is_wrong_with_an_id(value: Any, fault: str | None) -> None:
    assert id_fault(value, 9) == fault


def test_the_message_names_the_id() -> None:
    with pytest.raises(PatchError, match=r"^the branch id 'a\\n' must have no control"):
        check_doc_id("a\n", Limits(), what="branch id")
    assert check_doc_id("a", Limits()) == "a"


def test_metadata_is_measured_as_it_is_sent() -> None:
    check_metadata({"é": 1}, Limits(max_metadata_bytes=8))
    with pytest.raises(OpsRefusedError, match="8 bytes, at most 7") as refused:
        check_metadata({"é": 1}, Limits(max_metadata_bytes=7))
    assert refused.value.code == 413
    check_metadata({"a": "x" * 10_000}, Limits(max_metadata_bytes=None))


def test_metadata_is_copied() -> None:
    given = {"a": [1]}
    copy = checked_metadata(given, Limits())
    assert copy == given
    assert copy["a"] is not given["a"]
    assert checked_metadata(None, Limits()) == {}
    with pytest.raises(PatchError, match="must be a mapping, not a list"):
        checked_metadata([("a", 1)], Limits())  # type: ignore[arg-type]  # a mistake
