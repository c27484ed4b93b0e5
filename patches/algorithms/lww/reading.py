"""What transactions read of a document's tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from patches.algorithms.histories import Copy, installation_of
from patches.algorithms.lww.state import committed_state, in_commit_order
from patches.algorithms.lww.steps import Step, Work
from patches.algorithms.lww.tables import DocTables
from patches.algorithms.lww.units import bare, bare_change
from patches.model.change import Change
from patches.model.json_values import Json


def load(tables: DocTables) -> Work | None:
    """Everything, or `None` for a document that is unknown or deleted."""
    head = tables.head()
    if head is None or head.deleted:
        return None
    return Work(
        state=committed_of(tables),
        committed_rev=head.committed_rev,
        sending=[bare_change(piece) for piece in tables.sending()],
        pending=[bare(op) for op in tables.pending.ops()],
        version=head.version,
    )


def committed_rev(tables: DocTables) -> int:
    """The last revision known here, 0 if none."""
    head = tables.head()
    return 0 if head is None or head.deleted else head.committed_rev


def has_pending(tables: DocTables) -> bool:
    """Whether a piece is being sent or an op is pending."""
    return bool(tables.pending.any() or tables.sending())


def committed_of(tables: DocTables) -> Json:
    """The state of the server's rows alone."""
    return committed_state(tables.snapshot().state, in_commit_order(tables.committed.ops()))


def copy_of(tables: DocTables) -> Copy:
    """The history of the copy, and the installation that it stems from."""
    return Copy(tables.history(), installation_of(version_of(tables)))


def version_of(tables: DocTables) -> int:
    """How often the tables were written to."""
    head = tables.head()
    return 0 if head is None else head.version


def work_of(tables: DocTables) -> Work:
    """Everything of a document that is there."""
    work = load(tables)
    assert work is not None
    return work


def work_if_missed(tables: DocTables, before: int, known: int | None) -> Work | None:
    """What a document that knows another version than the one before has to take."""
    return None if known is None or known == before else load(tables)


def catch_up(tables: DocTables, known: int | None) -> Step | None:
    """What a document has to take that has missed a write of another process."""
    version = version_of(tables)
    work = work_if_missed(tables, version, known)
    if work is None:
        return None
    return Step(before=version, after=version, committed_rev=work.committed_rev, work=work)


def taken(tables: DocTables, ids: Collection[str]) -> tuple[list[Change], list[Change]]:
    """The pieces being sent that have one of the ids, and the others, as they are stored."""
    sending = tables.sending()
    if not sending:
        return [], []
    return (
        [piece for piece in sending if piece.id in ids],
        [piece for piece in sending if piece.id not in ids],
    )


def rebased(pieces: Sequence[Change], rev: int) -> list[Change]:
    """Pieces that nobody has sent yet, so that their answers hold no more than they must."""
    return [piece.replace(base_rev=rev, rev=rev + 1) for piece in pieces]
