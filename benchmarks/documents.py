"""Local edits of open documents: the draft, the checks, the operations applied to what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks.harness import Contender, Workload
from benchmarks.json_patch import RECORDING, recording
from patches.algorithms.lww import LWWDoc
from patches.algorithms.ot import OTDoc
from patches.documents.document import Document
from patches.limits import Limits
from patches.model.change import Snapshot
from patches.testing.typing_sessions import TextEdit, TypingSession, read_recording
from patches.text import text_of

#: Nothing is stored here, so nothing may be refused for being too much.
NO_LIMITS = Limits(max_pending_per_doc=None, max_pending_bytes_per_doc=None)
EDITS = 5_000


def workloads() -> Iterator[Workload]:
    yield replay()
    for keys in (10, 10_000):
        state = {f"key{number}": number for number in range(keys)}
        yield Workload(
            title=f"one field a time of a document of {keys:,} keys, change(fn)",
            unit="edits",
            units=EDITS,
            contenders=(
                Contender(name="OTDoc", setup=opened(OTDoc, state), run=edit, rounds=3),
                Contender(name="LWWDoc", setup=opened(LWWDoc, state), run=edit, rounds=3),
            ),
        )


def replay() -> Workload:
    path = recording()
    skipped = "" if path.exists() else f"no {RECORDING}: set PATCHES_TRACES_DIR"
    session = TypingSession("", "", []) if skipped else read_recording(path)
    return Workload(
        title="replay automerge-paper, one change(fn) per keystroke",
        unit="edits",
        units=session.edits,
        contenders=(
            Contender(
                name="OTDoc.change",
                setup=opened(OTDoc, {"text": ""}),
                run=lambda doc: type_session(doc, session),
                rounds=1,
            ),
        ),
        skipped=skipped,
    )


def opened(kind: Callable[..., Document], state: dict[str, Any]) -> Callable[[], Document]:
    return lambda: kind("doc", Snapshot(state=state, rev=1), limits=NO_LIMITS)


def edit(doc: Document) -> None:
    keys = list(doc.state)[:10]
    for number in range(EDITS):
        doc.change(lambda draft: draft.__setitem__(keys[number % 10], -number))  # noqa: B023  # called at once


def type_session(doc: Document, session: TypingSession) -> None:
    for edits in session.transactions:
        doc.change(partial(type_edits, edits=edits))
    if text_of(doc.state["text"]) != session.end + "\n":
        raise AssertionError("the replay does not end at the recorded text")


def type_edits(draft: Any, edits: Sequence[TextEdit]) -> None:
    text = draft.text("text")
    for position, deleted, inserted in edits:
        text.replace(position, deleted, inserted)
