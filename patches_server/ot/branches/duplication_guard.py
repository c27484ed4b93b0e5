"""The guard against merging a text into a document that has it already.

The rules: `docs/internals/ot.md` 17.7.

A branch whose seed counts as content carries the whole source text as an edit of its own; merging
it would double the text. The guard walks the branch's changes over the source's texts, separates
what was there from what was inserted, and searches for what has the shape of a copy. Pure. It
knows texts by their path in the branch: one that was moved in the meantime is not checked.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from patches.json_patch import pointer
from patches.model.change import Change
from patches.model.json_values import Json, Op

#: Stands for an embedded object; not a character that is typed.
_EMBED: Final = "\ufffc"


@dataclass(frozen=True, slots=True)
class Duplication:
    """A text that would be doubled, and how much of it (UTF-16 units)."""

    path: str
    chars: int


@dataclass(frozen=True, slots=True)
class _Span:
    text: str  # one character per UTF-16 unit
    original: bool


def find_duplication(state: Json, changes: Sequence[Change], min_length: int) -> Duplication | None:
    """The first text of `state` that `changes`, a branch's, would double."""
    ops = [op for change in changes for op in change.ops]
    if not any(_is_suspicious(op, min_length) for op in ops):
        return None
    for path in dict.fromkeys(op["path"] for op in ops if _writes_text(op)):
        old = _text_of(pointer.value_at(state, path))
        if old is not None and len(old) >= min_length:
            chars = _doubled(old, _walk(old, ops, path), min_length)
            if chars:
                return Duplication(path, chars)
    return None


def _is_suspicious(op: Op, min_length: int) -> bool:
    if op["op"] == "@txt":
        for part in _parts(op.get("value")):
            if "insert" in part:
                return len(_inserted(part)) >= min_length
            if "retain" not in part:
                return False
        return False
    text = _text_of(op.get("value")) if op["op"] in ("add", "replace") else None
    return text is not None and len(text) >= 2 * min_length


def _writes_text(op: Op) -> bool:
    return op["op"] == "@txt" or (
        op["op"] in ("add", "replace") and _text_of(op.get("value")) is not None
    )


def _walk(old: str, ops: Sequence[Op], path: str) -> list[_Span]:
    """The text after the operations that write to `path`, in spans."""
    spans = [_Span(old, True)]
    for op in ops:
        if op["path"] != path:
            continue
        if op["op"] == "@txt":
            spans = _edited(spans, _parts(op.get("value")))
        elif op["op"] in ("add", "replace"):
            text = _text_of(op.get("value"))
            spans = [] if text is None else [_Span(text, False)]
        elif op["op"] == "remove":
            spans = []
    return spans


def _edited(spans: list[_Span], parts: Sequence[Op]) -> list[_Span]:
    result: list[_Span] = []
    rest = spans
    for part in parts:
        if "insert" in part:
            result.append(_Span(_inserted(part), False))
        elif "retain" in part:
            kept, rest = _split(rest, part["retain"])
            result.extend(kept)
        elif "delete" in part:
            _, rest = _split(rest, part["delete"])
    return [span for span in [*result, *rest] if span.text]


def _split(spans: list[_Span], length: int) -> tuple[list[_Span], list[_Span]]:
    for place, end in enumerate(accumulate(len(span.text) for span in spans)):
        if end >= length:
            span = spans[place]
            cut = len(span.text) - (end - length)
            return (
                [*spans[:place], _Span(span.text[:cut], span.original)],
                [_Span(span.text[cut:], span.original), *spans[place + 1 :]],
            )
    return spans, []


def _doubled(old: str, spans: list[_Span], min_length: int) -> int:
    """How many characters are there twice."""
    whole = "".join(span.text for span in spans)
    first = whole.find(old)
    if first >= 0 and whole.find(old, first + len(old)) >= 0:
        return len(old)
    surviving = "".join(span.text for span in spans if span.original)
    for run in (spans, _joined(spans)):
        before_original = True
        for place, span in enumerate(run):
            if span.original:
                before_original = False
                continue
            if len(span.text) < min_length:
                continue
            if before_original and span.text in surviving:
                return len(span.text)
            following = "".join(later.text for later in run[place + 1 :] if later.original)
            if following.startswith(span.text):
                return len(span.text)
    return 0


def _joined(spans: list[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    for span in spans:
        if joined and joined[-1].original == span.original:
            joined[-1] = _Span(joined[-1].text + span.text, span.original)
        else:
            joined.append(span)
    return joined


def _text_of(value: Json) -> str | None:
    """The text of a text field, `None` for any other value."""
    parts = _parts(value)
    if not parts or not all(isinstance(part, dict) and "insert" in part for part in parts):
        return None
    return "".join(map(_inserted, parts))


def _parts(value: Json) -> Sequence[Any]:
    parts = value.get("ops") if isinstance(value, dict) else value
    return parts if isinstance(parts, list) else ()


def _inserted(part: Op) -> str:
    insert = part["insert"]
    return "".join(_units(insert)) if isinstance(insert, str) else _EMBED


def _units(text: str) -> Iterator[str]:
    if text.isascii():
        return iter(text)
    return map(chr, array("H", text.encode("utf-16-le", "surrogatepass")))
