"""What undo costs: `python -m benchmarks.undo`. CPU time, and ratios within one run.

A local edit with a manager beside one without; then 10,000 steps of typing with 10,000 edits of
others between them, and the longest undo.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any, Final

from patches import UndoManager
from patches.algorithms.lww.doc import LWWDoc
from patches.algorithms.ot.doc import OTDoc
from patches.documents.document import Document

_EDITS: Final = 2_000
_ROUNDS: Final = 15
_STEPS: Final = 10_000


def main() -> None:
    """Print both tables."""
    print("a local edit with a manager, without = 1.00 (median of 15 rounds)")
    for name, make in (("ot text", _text_doc), ("ot field", _ot_doc), ("lww field", _lww_doc)):
        print(f"  {name:10} {_ratio(make):5.2f}")
    longest, total = _deep()
    print(f"{_STEPS:,} steps, {_STEPS:,} edits of others between: longest undo {longest:.1f} ms")
    print(f"  undoing all of them {total:.1f} s")


def _ratio(make: Any) -> float:
    ratios = []
    for _ in range(_ROUNDS):
        plain, managed = make(), make()
        UndoManager(managed, group_within=0)
        ratios.append(_edits(managed) / _edits(plain))
    return statistics.median(ratios)


def _edits(doc: Document) -> float:
    gc.collect()
    began = time.process_time()
    if "body" in doc.state:
        for place in range(_EDITS):
            doc.change(lambda draft, place=place: draft.text("body").insert(place, "x"))  # type: ignore[misc]  # a lambda with a default
    else:
        for value in range(_EDITS):
            doc.change(lambda draft, value=value: draft.update(title=value))  # type: ignore[misc]  # a lambda with a default
    return time.process_time() - began


def _text_doc() -> Document:
    doc = OTDoc("doc")
    doc.change(lambda draft: draft.text("body").insert(0, "text " * 400))
    return doc


def _ot_doc() -> Document:
    doc = OTDoc("doc")
    doc.change(lambda draft: draft.update({f"key {at}": at for at in range(50)}))
    return doc


def _lww_doc() -> Document:
    doc = LWWDoc("doc")
    doc.change(lambda draft: draft.update({f"key {at}": at for at in range(50)}))
    return doc


def _deep() -> tuple[float, float]:
    doc = _text_doc()
    undo = UndoManager(doc, group_within=0, limit=_STEPS)
    doc.unsaved.clear()  # as if stored and confirmed: their own work is measured elsewhere
    for step in range(_STEPS):
        doc.change(lambda draft, step=step: draft.text("body").insert(2 * step, "m"))  # type: ignore[misc]  # a lambda with a default
        doc.unsaved.clear()
        ops = [{"op": "@txt", "path": "/body", "value": [{"insert": "t"}]}]
        with undo.untracked():
            doc.apply(ops)
        doc.unsaved.clear()
    longest, began = 0.0, time.process_time()
    while undo.can_undo:
        start = time.process_time()
        undo.undo()
        doc.unsaved.clear()
        longest = max(longest, time.process_time() - start)
    return longest * 1000, time.process_time() - began


if __name__ == "__main__":
    main()
