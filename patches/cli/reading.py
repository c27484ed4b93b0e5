"""The commands that read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from patches.cli import output
from patches.cli.commands import Exit, document_argument, patches, with_session
from patches.cli.session import Session
from patches.errors import NotFoundError, PatchesError

if TYPE_CHECKING:
    from patches.model.change import Change
    from patches.model.json_values import Json


@patches.command()
@click.argument("prefix", default="")
@click.option("--remote", is_flag=True, help="Those of the server that you may read.")
@with_session
async def ls(session: Session, prefix: str, remote: bool) -> None:
    """List documents with their revision and what is unsent."""
    as_json = session.settings.as_json
    if remote:
        rows = [
            {"doc_id": each["docId"], "algorithm": each["algorithm"], "rev": each["rev"]}
            for each in await _listed(session, prefix)
        ]
        output.print_rows(rows, ("doc_id", "algorithm", "rev"), as_json=as_json)
        return
    rows = [row for row in await _local(session) if row["doc_id"].startswith(prefix)]
    output.print_rows(rows, ("doc_id", "algorithm", "rev", "unsent"), as_json=as_json)


@patches.command()
@with_session
async def status(session: Session) -> int:
    """Show each document: its revision, what is unsent, what is in quarantine."""
    rows = await _local(session)
    aside: dict[str, int] = {}
    for entry in await session.patches.list_quarantined_changes():
        aside[entry.doc_id] = aside.get(entry.doc_id, 0) + 1
    for row in rows:
        row["quarantined"] = aside.get(row["doc_id"], 0)
        row["status"] = _status_of(session, row["doc_id"])
    columns = ("doc_id", "status", "rev", "unsent", "quarantined")
    output.print_rows(rows, columns, as_json=session.settings.as_json)
    if not session.settings.is_local:
        session.require_server()
    return Exit.QUARANTINED if aside else Exit.DONE


@patches.command()
@document_argument
@click.argument("path", default="")
@click.option("--rev", type=click.IntRange(min=0), help="The state at this revision.")
@click.option("--text", is_flag=True, help="A text as plain text, not as JSON.")
@with_session
async def cat(session: Session, doc_id: str, path: str, rev: int | None, text: bool) -> None:
    """Print a document, or the part at PATH, a JSON Pointer."""
    doc = await session.document(doc_id)
    if rev is not None:
        session.require_server()
    state = doc.raw if rev is None else await doc.at(rev)
    value = part_of(state, path, doc_id)
    if text:
        output.print_text(text_of(value, path))
    else:
        output.print_value(value, as_json=session.settings.as_json)


@patches.command()
@document_argument
@click.argument("path", default="")
@click.option("--ops", is_flag=True, help="The operations that are committed, not the state.")
@with_session
async def watch(session: Session, doc_id: str, path: str, ops: bool) -> None:
    """Print a document again after every update, until Ctrl-C."""
    import asyncio

    session.require_server()
    doc = await session.document(doc_id)
    if ops:
        session.patches.on_server_commit(
            lambda committed, changes: _print_ops(changes) if committed == doc_id else None
        )
        await asyncio.Event().wait()
    shown: Any = object()
    async for _ in doc:
        value = doc.get(path)
        if value != shown:
            shown = value
            output.print_value(value, as_json=True)


@patches.command()
@document_argument
@click.option("--limit", type=click.IntRange(min=1), default=20, help="How many moments.")
@with_session
async def log(session: Session, doc_id: str, limit: int) -> None:
    """Show who changed what and when, newest first."""
    session.require_server()
    doc = await session.document(doc_id)
    rows = [
        {
            "rev": moment.to_rev, "at": _time(moment.at), "authors": list(moment.authors),
            "summary": moment.summary, "version": moment.version,
        }
        async for moment in doc.history(limit=limit)
    ]  # fmt: skip
    columns = ("rev", "at", "authors", "summary", "version")
    output.print_rows(rows, columns, as_json=session.settings.as_json)


@patches.command()
@document_argument
@click.argument("first", metavar="[A]", type=click.IntRange(min=0), required=False)
@click.argument("second", metavar="[B]", type=click.IntRange(min=0), required=False)
@click.option("--rfc6902", is_flag=True, help="As a JSON Patch.")
@with_session
async def diff(
    session: Session, doc_id: str, first: int | None, second: int | None, rfc6902: bool
) -> None:
    """Show what differs between revisions A and B. Without B: now; without A: what is unsent."""
    from patches.history import diff_states

    doc = await session.document(doc_id)
    if first is None:
        committed = await session.patches.algorithm_of(doc_id).load_doc(doc_id)
        found = diff_states(committed.state if committed is not None else {}, doc.raw)
    else:
        session.require_server()
        found = await doc.diff(first, second)
    if rfc6902 or session.settings.as_json:
        output.print_value(found.to_jsonpatch().patch, as_json=session.settings.as_json)
        return
    text = found.to_text(color=False)
    if text:
        click.echo(output.printable(text, one_line=False))


@patches.command()
@document_argument
@click.argument("path")
@with_session
async def blame(session: Session, doc_id: str, path: str) -> None:
    """Show who wrote which part of the text at PATH."""
    session.require_server()
    doc = await session.document(doc_id)
    part_of(doc.raw, path, doc_id)
    rows = [
        {"author": run.author, "rev": run.rev, "at": _time(run.at), "text": run.text}
        for run in await doc.blame(path)
    ]
    output.print_rows(rows, ("author", "rev", "at", "text"), as_json=session.settings.as_json)


def part_of(state: Json, path: str, doc_id: str) -> Json:
    """The value at a path. Raises `NotFoundError`."""
    from patches.json_patch import ABSENT, pointer

    found = pointer.value_at(state, path)
    if found is ABSENT:
        raise NotFoundError(f"document {doc_id!r} has nothing at {path}")
    return found


def text_of(value: Json, path: str) -> str:
    """A string, or the characters of a rich text. Raises `PatchesError` for anything else."""
    from patches.text import text_ops_of

    if isinstance(value, str):
        return value
    ops = text_ops_of(value)
    if ops is not None:
        parts = (part.get("insert") for part in ops)
        return "".join(part if isinstance(part, str) else "\ufffc" for part in parts)
    raise PatchesError(f"{path or 'the document'} is no text; leave out --text")


async def _local(session: Session) -> list[dict[str, Any]]:
    rows = []
    for algorithm in session.patches.algorithms.values():
        for record in await algorithm.list_docs():
            pending = await algorithm.list_pending(record.doc_id, None)
            rows.append(
                {
                    "doc_id": record.doc_id, "algorithm": algorithm.name,
                    "rev": record.committed_rev, "unsent": len(pending),
                }
            )  # fmt: skip
    return sorted(rows, key=lambda row: row["doc_id"])


async def _listed(session: Session, prefix: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after = None
    while True:
        page = await session.call("listDocs", prefix, {"limit": 1000, "after": after})
        items += page["items"]
        after = page["next"]
        if after is None:
            return items


def _status_of(session: Session, doc_id: str) -> str:
    synced = session.sync.synced.get(doc_id) if session.sync is not None else None
    if synced is None:
        return "here only"
    return f"{synced.status}: {synced.error}" if synced.error is not None else synced.status


def _print_ops(changes: Any) -> None:
    change: Change
    for change in changes:
        said = {"rev": change.rev, "author": change.metadata.get("author"), "ops": change.ops}
        output.print_value(said, as_json=True)


def _time(at_ms: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
