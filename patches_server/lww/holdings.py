"""When a reader may have held something at or below a path: spans of revisions.

A removal under which something is written since is dead for everybody who was there, and is hidden.
But a reader who still holds what it removed, and catches up from before it, would keep that beside
what was written later. So each row carries the spans of revisions at which there was something at
or below its path; a hidden removal is sent to exactly the readers who stopped within one that has
ended. (The original forgets such removals, and those readers diverge.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from patches.model import codec

#: From a revision to the one before `end`; `None`: still so.
Span: TypeAlias = tuple[int, int | None]
Spans: TypeAlias = tuple[Span, ...]

_MOST_SPANS: Final = 8


def held_at(spans: Spans, rev: int) -> bool:
    """Whether a reader at `rev` holds something that is gone since."""
    return any(start <= rev < end for start, end in spans if end is not None)


def after_write(replaced: Iterable[Spans], rev: int) -> Spans:
    """The spans of a path where a value is written at `rev`, from those of the rows it replaces."""
    ended, since = _split(replaced)
    return (*_merged(ended), (rev if since is None else since, None))


def after_removal(replaced: Iterable[Spans], rev: int, *, held_since: Iterable[int] = ()) -> Spans:
    """The same for a removal. `held_since`: since when values above have held something here."""
    ended, since = _split(replaced)
    starts = [*held_since, *([] if since is None else [since])]
    if starts:
        ended.append((min(starts), rev))
    return _merged(ended)


def encode_spans(spans: Spans) -> bytes:
    """As stored."""
    return codec.encode(spans)


def decode_spans(stored: bytes) -> Spans:
    """From what was stored."""
    return tuple((start, end) for start, end in codec.decode(stored))


def _split(replaced: Iterable[Spans]) -> tuple[list[tuple[int, int]], int | None]:
    ended: list[tuple[int, int]] = []
    since: int | None = None
    for spans in replaced:
        for start, end in spans:
            if end is not None:
                ended.append((start, end))
            elif since is None or start < since:
                since = start
    return ended, since


def _merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """In order, overlapping ones as one; of too many, the oldest as one.

    Sending a reader a removal that it knows does no harm.
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    surplus = len(merged) - _MOST_SPANS
    if surplus > 0:
        merged[: surplus + 1] = [(merged[0][0], merged[surplus][1])]
    return tuple(merged)
