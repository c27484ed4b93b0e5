"""Plain reads by pointer."""

from __future__ import annotations

import pytest

from patches.errors import PatchError
from patches.json_patch import ABSENT
from patches.json_patch.pointer import container_prefix, last_key, value_at
from patches.model.json_values import Json

STATE: Json = {"a/b": {"c~d": [10, None]}, "": 1, "5": "five"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", STATE),
        ("/", 1),
        ("/5", "five"),
        ("/a~1b/c~0d/0", 10),
        ("/a~1b/c~0d/1", None),
        ("/a~1b/c~0d/2", ABSENT),
        ("/a~1b/c~0d/-", ABSENT),
        ("/a~1b/c~0d/00", ABSENT),
        ("/5/length", ABSENT),
        ("/x/y", ABSENT),
    ],
)
def test_a_value_is_found_by_its_pointer(path: str, value: Json) -> None:
    assert value_at(STATE, path) is value


def test_what_is_no_pointer_is_refused() -> None:
    with pytest.raises(PatchError):
        value_at(STATE, "a")


def test_the_last_key_and_what_goes_before_it() -> None:
    assert (last_key("/a/b~1c"), container_prefix("/a/b~1c")) == ("b~1c", "/a/")
    assert (last_key(""), container_prefix("")) == ("", "")
