"""What drafts can do beyond items and attributes, as functions that type checkers know.

A draft of a TypedDict is typed as that TypedDict, which has no `increment` and no `text`.
`docs/typed.md`.
"""

from __future__ import annotations

from typing import Any

from patches.documents.draft import DraftText


def increment(draft: Any, key: str | int, by: float = 1) -> None:
    """Add `by` to the number at `key` of a part of a draft. Concurrent increments add up."""
    _part(draft).increment(_member(draft, key), by)


def set_max(draft: Any, key: str | int, value: float | str) -> None:
    """Set `key` to `value` if that is greater. Of concurrent ones the greatest stays."""
    _part(draft).set_max(_member(draft, key), value)


def set_min(draft: Any, key: str | int, value: float | str) -> None:
    """Set `key` to `value` if that is smaller. Of concurrent ones the smallest stays."""
    _part(draft).set_min(_member(draft, key), value)


def set_bit(draft: Any, key: str | int, index: int, on: bool = True) -> None:
    """Switch bit `index` (0-14) of the number at `key`, whatever happens to the others."""
    _part(draft).set_bit(_member(draft, key), index, on)


def text(draft: Any, key: str | int) -> DraftText:
    """The rich text at `key`, to be edited. One that is not there begins empty."""
    found: DraftText = _part(draft).text(_member(draft, key))
    return found


def _part(draft: Any) -> Any:
    """The part that records: a typed part has it below."""
    real = getattr(type(draft), "_real", None)
    return draft if real is None else real(draft)


def _member(draft: Any, key: str | int) -> str | int:
    """The member of a field, which a class may call otherwise."""
    member_of = getattr(type(draft), "_member_of", None)
    member: str | int = key if member_of is None else member_of(draft, key)
    return member
