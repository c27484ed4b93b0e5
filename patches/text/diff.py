"""The change that leads from one document to another: small, and never slow.

Common ends are cut off first, which settles most edits. What differs between them is compared
character by character (Myers' greedy algorithm, minimal) within a budget in proportion to its
length. Beyond that the texts are pinned together at lines, then at words, that each has once
(patience diff), and the gaps between are compared in the same way; what is left is replaced. So the
time is about linear. Texts are compared by character, so a pair of surrogates is never cut.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Final, NamedTuple

from patches.errors import PatchError
from patches.model.json_values import json_equal
from patches.text.algebra import pieces
from patches.text.attributes import diff_attributes
from patches.text.ops import (
    DELETE,
    INSERT,
    RETAIN,
    Cursor,
    DeltaOp,
    chop,
    op_type,
    push,
    with_attributes,
)
from patches.text.utf16 import utf16_length

_EMBED: Final = "\0"  # stands for an embed; equality of embeds is checked later
_MOST_EDITS: Final = 400
_TOKENS: Final = (re.compile(r"[^\n]*\n|[^\n]+"), re.compile(r"\w+|\s+|[^\w\s]"))


class Block(NamedTuple):
    """The same `length` characters, at `a` in one text and at `b` in the other."""

    a: int
    b: int
    length: int


class Gap(NamedTuple):
    """Parts of the two texts that are still to be compared, with tokens of this `level`."""

    a: int
    a_end: int
    b: int
    b_end: int
    level: int


def diff_ops(a: Sequence[DeltaOp], b: Sequence[DeltaOp]) -> list[DeltaOp]:
    """A change that makes the document `b` of the document `a`.

    Raises `PatchError` if one of them is not a document.
    """
    old, new = _flat(a), _flat(b)
    before, after = Cursor(a), Cursor(b)
    ops: list[DeltaOp] = []
    at_old = at_new = 0
    for block in [*matching_blocks(old, new), Block(len(old), len(new), 0)]:
        for op, _ in pieces(after, utf16_length(new[at_new : block.b])):
            push(ops, op)
        for _, units in pieces(before, utf16_length(old[at_old : block.a])):
            push(ops, {DELETE: units})
        at_old, at_new = block.a + block.length, block.b + block.length
        _keep(before, after, utf16_length(new[block.b : at_new]), ops)
    return chop(ops)


def _flat(ops: Sequence[DeltaOp]) -> str:
    if any(op_type(op) != INSERT for op in ops):
        raise PatchError("diff takes documents: lists of inserts")
    return "".join(op[INSERT] if isinstance(op[INSERT], str) else _EMBED for op in ops)


def _keep(before: Cursor, after: Cursor, units: int, ops: list[DeltaOp]) -> None:
    """Retain `units` that read the same, with the formatting and the embeds of `after`."""
    for new, length in pieces(after, units):
        done = 0
        for old, part in pieces(before, length):
            if isinstance(old[INSERT], str) and isinstance(new[INSERT], str):
                attributes = diff_attributes(old.get("attributes"), new.get("attributes"))
                push(ops, with_attributes({RETAIN: part}, attributes))
            elif json_equal(old[INSERT], new[INSERT]):
                attributes = diff_attributes(old.get("attributes"), new.get("attributes"))
                push(ops, with_attributes({RETAIN: part}, attributes))
            else:  # two embeds, or an embed and the character that stands for it
                content = new[INSERT][done : done + part] if part < length else new[INSERT]
                push(ops, with_attributes({INSERT: content}, new.get("attributes")))
                push(ops, {DELETE: part})
            done += part


def matching_blocks(old: str, new: str) -> list[Block]:
    """What two texts have in common, in order."""
    blocks: list[Block] = []
    gaps = [Gap(0, len(old), 0, len(new), 0)]
    while gaps:
        gap = gaps.pop()
        start = common_prefix(old[gap.a : gap.a_end], new[gap.b : gap.b_end])
        blocks.append(Block(gap.a, gap.b, start))
        gap = gap._replace(a=gap.a + start, b=gap.b + start)
        end = common_prefix(old[gap.a : gap.a_end][::-1], new[gap.b : gap.b_end][::-1])
        gap = gap._replace(a_end=gap.a_end - end, b_end=gap.b_end - end)
        blocks.append(Block(gap.a_end, gap.b_end, end))
        if gap.a < gap.a_end and gap.b < gap.b_end:
            inner, open_gaps = _split(old, new, gap)
            blocks += inner
            gaps += open_gaps
    return sorted(block for block in blocks if block.length)


def common_prefix(a: str, b: str) -> int:
    """How many characters two texts begin with together. Compares slices, by halving."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    step = 32  # most differences are near: look there first
    while step < high and a[low:step] == b[low:step]:
        low, step = step, step * 2
    high = min(step, high)
    while low < high - 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low + (a[low] == b[low])


def _split(old: str, new: str, gap: Gap) -> tuple[list[Block], list[Gap]]:
    a, b = old[gap.a : gap.a_end], new[gap.b : gap.b_end]
    found = _myers(a, b, budget=4 * (len(a) + len(b)) + 10_000)
    if found is not None:
        return [Block(gap.a + x, gap.b + y, length) for x, y, length in found], []
    for level in range(gap.level, len(_TOKENS)):
        pins = _pins(a, b, _TOKENS[level])
        if pins:
            shifted = [Block(gap.a + x, gap.b + y, length) for x, y, length in pins]
            return shifted, list(_between(gap, shifted, level + 1))
    return [], []


def _between(gap: Gap, blocks: Sequence[Block], level: int) -> Iterator[Gap]:
    at, to = gap.a, gap.b
    for block in [*blocks, Block(gap.a_end, gap.b_end, 0)]:
        yield Gap(at, block.a, to, block.b, level)
        at, to = block.a + block.length, block.b + block.length


def _pins(a: str, b: str, token: re.Pattern[str]) -> list[Block]:
    """Tokens that both texts have exactly once, as far as they stand in the same order."""
    places = _unique_tokens(b, token)
    pairs = [
        (at, places[text], len(text))
        for text, at in _unique_tokens(a, token).items()
        if text in places
    ]
    tails: list[int] = []  # the least end of an increasing run of each length
    chosen: list[int] = []  # the pair with that end
    previous: list[int] = []
    for index, (_, place, _) in enumerate(pairs):
        length = bisect_left(tails, place)
        previous.append(chosen[length - 1] if length else -1)
        tails[length : length + 1] = [place]
        chosen[length : length + 1] = [index]
    run: list[Block] = []
    index = chosen[-1] if chosen else -1
    while index >= 0:
        run.append(Block(*pairs[index]))
        index = previous[index]
    return run[::-1]


def _unique_tokens(text: str, token: re.Pattern[str]) -> dict[str, int]:
    counts = Counter(token.findall(text))
    return {
        match.group(): match.start() for match in token.finditer(text) if counts[match.group()] == 1
    }


def _myers(a: str, b: str, budget: int) -> list[Block] | None:
    """The longest common subsequence as blocks.

    `None` if that takes more than `budget` comparisons, or more insertions and deletions than let
    their square, which is the time and memory that they cost, grow with the length.
    """
    furthest = {1: 0}  # diagonal -> how far along `a` an edit path has come on it
    history: list[dict[int, int]] = []
    length = len(a) + len(b)
    for edits in range(min(length, isqrt(8 * length) + 16, _MOST_EDITS) + 1):
        history.append(furthest.copy())
        for diagonal in range(-edits, edits + 1, 2):
            down = diagonal == -edits or (
                diagonal != edits and furthest[diagonal - 1] < furthest[diagonal + 1]
            )
            start = x = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            y = x - diagonal
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x += 1
                y += 1
            budget -= x - start
            furthest[diagonal] = x
            if x >= len(a) and y >= len(b):
                return _backtrack(history, len(a), len(b))
        if budget < 0:
            return None
    return None


def _backtrack(history: Sequence[dict[int, int]], x: int, y: int) -> list[Block]:
    blocks: list[Block] = []
    for edits in range(len(history) - 1, -1, -1):
        furthest, diagonal = history[edits], x - y
        down = diagonal == -edits or (
            diagonal != edits and furthest[diagonal - 1] < furthest[diagonal + 1]
        )
        came_from = diagonal + 1 if down else diagonal - 1
        before_x = furthest[came_from] if edits else 0
        start_x = before_x if down or not edits else before_x + 1
        if x > start_x:
            blocks.append(Block(start_x, start_x - diagonal, x - start_x))
        x, y = before_x, before_x - came_from
    return blocks[::-1]
