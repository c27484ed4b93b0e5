"""Compose, transform and invert over lists of delta ops.

The rules: `docs/internals/json-patch.md` 6.4 to 6.8.

The results agree op by op with those of the wire's other library, whose order of cases and two
short cuts are therefore kept: they decide where neighbours stay unmerged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from patches.model.json_values import json_equal
from patches.text.attributes import compose_attributes, invert_attributes, transform_attributes
from patches.text.ops import (
    DELETE,
    INSERT,
    RETAIN,
    Cursor,
    DeltaOp,
    chop,
    op_length,
    op_type,
    push,
    with_attributes,
)
from patches.text.pairs import LONG, keep_pairs, pair_starts, pairs_of, position_at
from patches.text.utf16 import (
    LOW_FIRST,
    LOW_LAST,
    cut,
    has_no_pairs,
    join_all,
    utf16_length,
)


def compose(a: Sequence[DeltaOp], b: Sequence[DeltaOp]) -> list[DeltaOp]:
    """One delta with the effect of `a`, then `b`."""
    if len(a) == 1 and len(a[0]) == 1 and isinstance(a[0].get(INSERT), str):
        text = splice(a[0][INSERT], b)  # a text in one run, a few plain edits: no cursors needed
        if text is not None:
            return [{INSERT: text}] if text else []
    left, right = Cursor(a), Cursor(b)
    ops: list[DeltaOp] = []
    _keep_head(left, right, ops)
    while left.op is not None or right.op is not None:
        if right.type == INSERT:
            push(ops, right.take_insert(None)[0])
        elif left.type == DELETE:
            push(ops, left.take_number(None))
        elif right.type == DELETE:
            kept, units = _take_under(left, right.remaining())
            removed = right.take_number(units)
            if kept is None or RETAIN in kept:
                push(ops, removed)
        elif _compose_retain(left, right, ops):
            break
    return chop(ops)


def _keep_head(left: Cursor, right: Cursor, ops: list[DeltaOp]) -> None:
    """Copy the inserts that a leading plain retain passes over, unmerged."""
    if right.op is None or right.type != RETAIN or "attributes" in right.op:
        return
    total = fits = right.remaining() or 0
    while fits and left.op is not None and left.type == INSERT:
        whole = left.take_whole_texts(ops, fits)
        if whole:
            fits -= whole
            continue
        text = left.op.get(INSERT)
        if isinstance(text, str) and (len(text) > fits or utf16_length(text) > fits):
            break
        op, length = left.take_insert(fits)
        fits -= length or 0
        ops.append(op)
    if fits < total:
        right.take_number(total - fits)


def _take_under(left: Cursor, limit: int | None) -> tuple[DeltaOp | None, int | None]:
    """At most `limit` units of an insert or retain; no op past the end. `None` units: the rest."""
    if left.op is None:
        return None, limit
    if left.type == INSERT:
        return left.take_insert(limit)
    remaining = left.remaining() or 0
    units = remaining if limit is None else min(limit, remaining)
    return left.take_number(units), units


def _compose_retain(left: Cursor, right: Cursor, ops: list[DeltaOp]) -> bool:
    """Keep what `left` has below a retain; true if all the rest of `left` followed as it is."""
    kept, units = _take_under(left, right.remaining())
    if right.op is None:
        assert kept is not None
        push(ops, kept)
        _push_rest(ops, left)
        return True
    assert units is not None
    retain = right.take_number(units)
    attributes = retain.get("attributes")
    if kept is None:
        kept = retain
    elif attributes is not None:
        before = kept.get("attributes")
        after = compose_attributes(before, attributes, keep_null=RETAIN in kept)
        if not json_equal(before, after):
            kind = op_type(kept)
            kept = with_attributes({kind: kept[kind]}, after)
    push(ops, kept)
    if right.at_end() and json_equal(ops[-1], kept):
        _push_rest(ops, left)
        return True
    return False


def _push_rest(ops: list[DeltaOp], left: Cursor) -> None:
    rest = left.rest()
    if rest:
        push(ops, rest[0])
        ops.extend(rest[1:])


def transform(
    a: Sequence[DeltaOp], b: Sequence[DeltaOp], *, priority: bool = False
) -> list[DeltaOp]:
    """`b` as it applies after `a`. With priority, an insert of `a` stays first at its place."""
    left, right = Cursor(a), Cursor(b)
    ops: list[DeltaOp] = []
    while right.op is not None:  # what would follow is one retain, and chopped
        # An insert behind a retain of length 0 comes after the other side's (a recorded case).
        left_inserts = left.type == INSERT and not left.after_nothing
        right_inserts = right.type == INSERT and not right.after_nothing
        if left_inserts and (priority or not right_inserts):
            assert left.op is not None
            push(ops, {RETAIN: op_length(left.op)})
            left.take_insert(None)
        elif right_inserts:
            push(ops, right.take_insert(None)[0])
        elif left.after_nothing or right.after_nothing:
            left.after_nothing = right.after_nothing = False
        else:
            limit, more = right.remaining() or 0, left.remaining()
            units = limit if more is None else min(limit, more)
            passed = left.take_number(units) if left.op is not None else {}
            moved = right.take_number(units)
            if DELETE in passed:
                continue
            if RETAIN in moved:
                attributes = transform_attributes(
                    passed.get("attributes"), moved.get("attributes"), priority=priority
                )
                moved = with_attributes({RETAIN: units}, attributes)
            push(ops, moved)
    return chop(ops)


def transform_position(a: Sequence[DeltaOp], index: int, *, priority: bool = False) -> int:
    """Where the cursor position `index` is after `a`. With priority it stays before inserts."""
    offset = 0
    for op in a:
        if offset > index:
            break
        length = op_length(op)
        kind = op_type(op)
        if kind == DELETE:
            index -= min(length, index - offset)
            continue
        if kind == INSERT and (offset < index or not priority):
            index += length
        offset += length
    return index


def invert(change: Sequence[DeltaOp], base: Sequence[DeltaOp]) -> list[DeltaOp]:
    """What undoes `change` on the document `base`."""
    ops: list[DeltaOp] = []
    below = Cursor(base)
    for op in change:
        kind, length = op_type(op), op_length(op)
        if kind == INSERT:
            push(ops, {DELETE: length})
        elif kind == RETAIN and not op.get("attributes"):
            skip(below, length)
            push(ops, {RETAIN: length})
        else:
            for piece, units in pieces(below, length):
                if kind == DELETE:
                    push(ops, piece)
                    continue
                attributes = invert_attributes(op["attributes"], piece.get("attributes"))
                push(ops, with_attributes({RETAIN: units}, attributes or None))
    return chop([op for op in ops if INSERT in op or op[op_type(op)]])


def skip(cursor: Cursor, units: int) -> None:
    """Pass `units` of a document."""
    for _ in pieces(cursor, units):
        pass


def pieces(cursor: Cursor, units: int | None) -> Iterator[tuple[DeltaOp, int]]:
    """The next `units` (`None`: all), op by op, each with its length."""
    while cursor.op is not None and (units is None or units > 0):
        if cursor.type == INSERT:
            piece, measured = cursor.take_insert(units)
            length = op_length(piece) if measured is None else measured
        else:
            length = cursor.remaining() or 0
            length = length if units is None else min(units, length)
            piece = cursor.take_number(length)
        yield piece, length
        if units is not None:
            units -= length


def splice(text: str, edits: Sequence[DeltaOp]) -> str | None:
    """`text` after plain edits within it; `None` if they format, embed or run past its end."""
    is_ascii = text.isascii()
    if not is_ascii and len(text) >= LONG and not has_no_pairs(text):
        spliced = _splice_with_pairs(text, edits)
        if spliced is not None:
            return spliced
    parts: list[str] = []
    position, half = 0, ""
    for op in edits:
        if len(op) != 1:
            return None
        (kind, value), *_ = op.items()
        if kind == INSERT:
            if not isinstance(value, str):
                return None
            parts.append(value)
            continue
        units = int(value)
        if is_ascii:
            end = position + units
            if end > len(text):
                return None
            if kind == RETAIN:
                parts.append(text[position:end])
            position = end
        elif units:
            head = half
            piece, position, half = cut(text, position, units - len(head))
            piece = head + piece
            if not half and position >= len(text) and utf16_length(piece) < units:
                return None
            if kind == RETAIN:
                parts.append(piece)
    parts.append(half + text[position:] if half else text[position:])
    return join_all(parts)


def _splice_with_pairs(text: str, edits: Sequence[DeltaOp]) -> str | None:
    """`splice` for a long string with pairs, which are moved along; `None` where one is cut."""
    pairs = pairs_of(text)
    if pairs is None:
        return None
    parts: list[str] = []
    moved: list[int] = []  # the pairs of the result
    position = unit = passed = 0  # how far the text is read: characters, units, pairs
    length = 0  # units of the result
    for op in edits:
        if len(op) != 1:
            return None
        ((kind, value),) = op.items()
        if kind == INSERT:
            if not isinstance(value, str):
                return None
            if not has_no_pairs(value):
                moved += [start + length for start in pair_starts(value)]
            parts.append(value)
            length += utf16_length(value)
            continue
        after = unit + int(value)
        end = position_at(pairs, after)
        if end < 0 or end > len(text):
            return None
        before = passed
        passed = after - end
        if kind == RETAIN:
            parts.append(text[position:end])
            moved += _shifted(pairs[before:passed], length - unit)
            length += after - unit
        position, unit = end, after
    parts.append(text[position:])
    moved += _shifted(pairs[passed:], length - unit)
    if any(part and LOW_FIRST <= part[0] <= LOW_LAST for part in parts):
        return None  # a lone surrogate may meet the other one of its pair
    result = "".join(parts)
    keep_pairs(result, moved)
    return result


def _shifted(starts: list[int], by: int) -> list[int]:
    return [start + by for start in starts] if by else starts
