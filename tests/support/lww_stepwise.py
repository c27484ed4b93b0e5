"""LWW's steps one by one, as @dabble/patches 0.28.1 takes them and recorded cases have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patches.algorithms.lww import LWWAlgorithm, transactions
from patches.algorithms.lww.doc import LWWDoc
from patches.documents.document import Document
from patches.model.change import Change
from patches.model.json_values import Op


class StepwiseLWW(LWWAlgorithm):
    """Asks for the whole change, confirms it, and then applies its answer."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._expected_ids: frozenset[str] = frozenset()

    async def get_pending_to_send(self, doc_id: str) -> list[Change] | None:
        """The change to send, undivided; `None` if nothing is pending."""
        return await self._next_piece(doc_id, None, None) or None

    async def confirm_sent(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None = None
    ) -> list[Op]:
        """Make sent pieces committed, ahead of their answer; returns corrections."""
        self._expected_ids = frozenset(change.id for change in changes)
        step = await self._store.change(
            doc_id, lambda tables: transactions.confirm(tables, changes, _version(doc))
        )
        await self._follow(doc_id, _lww(doc), step)
        return list(step.corrections)

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None = None
    ) -> list[Change]:
        """Changes with an id that was confirmed are always taken."""
        expected = self._expected_ids
        step = await self._store.change(
            doc_id,
            lambda tables: transactions.fold_changes(
                tables, doc_id, changes, expected, _version(doc), None
            ),
        )
        await self._follow(doc_id, _lww(doc), step)
        return [change for change in step.accepted if change.rev > step.before_rev]


def _lww(doc: Document | None) -> LWWDoc | None:
    assert doc is None or isinstance(doc, LWWDoc)
    return doc


def _version(doc: Document | None) -> int | None:
    opened = _lww(doc)
    return None if opened is None else opened.stored.version
