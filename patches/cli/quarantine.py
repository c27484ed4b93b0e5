"""The commands about changes that were set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from patches.cli import output
from patches.cli.commands import document_argument, patches, with_session
from patches.cli.session import Session
from patches.errors import NotFoundError

if TYPE_CHECKING:
    from patches.model.change import QuarantinedChange


@patches.group()
def quarantine() -> None:
    """Changes that the server refused: see why, put them back, or give them up."""


@quarantine.command("list")
@click.argument("doc_id", metavar="[DOC]", required=False)
@with_session
async def list_(session: Session, doc_id: str | None) -> None:
    """List the changes that were set aside, with the reason."""
    rows = [
        {"doc_id": each.doc_id, "change_id": each.change_id, "reason": each.reason}
        for each in await session.patches.list_quarantined_changes(doc_id)
    ]
    output.print_rows(rows, ("doc_id", "change_id", "reason"), as_json=session.settings.as_json)


@quarantine.command()
@document_argument
@click.argument("change_id", metavar="CHANGE")
@with_session
async def show(session: Session, doc_id: str, change_id: str) -> None:
    """Show one of them with its operations."""
    entry = await _entry(session, doc_id, change_id)
    said = {
        "doc_id": doc_id, "change_id": change_id, "reason": entry.reason, "ops": entry.change.ops,
    }  # fmt: skip
    output.print_value(said, as_json=session.settings.as_json)


@quarantine.command()
@document_argument
@click.argument("change_id", metavar="CHANGE")
@with_session
async def retry(session: Session, doc_id: str, change_id: str) -> None:
    """Apply one again to the document as it is now."""
    await _entry(session, doc_id, change_id)
    doc = await session.document(doc_id, create=True)
    await session.patches.retry_quarantined_change(doc_id, change_id)
    await session.confirm(doc)


@quarantine.command()
@document_argument
@click.argument("change_id", metavar="CHANGE")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_session
async def discard(session: Session, doc_id: str, change_id: str, yes: bool) -> None:
    """Forget one for good."""
    await _entry(session, doc_id, change_id)
    if not yes:
        click.confirm(f"Forget change {change_id} of {doc_id!r}?", abort=True)
    await session.patches.discard_quarantined_change(doc_id, change_id)


async def _entry(session: Session, doc_id: str, change_id: str) -> QuarantinedChange:
    for entry in await session.patches.list_quarantined_changes(doc_id):
        if entry.change_id == change_id:
            return entry
    raise NotFoundError(f"document {doc_id!r} has no change {change_id} in quarantine")
