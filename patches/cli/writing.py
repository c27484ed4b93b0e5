"""The commands that write."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from patches.cli.commands import document_argument, patches, with_session
from patches.cli.reading import part_of
from patches.cli.session import Session
from patches.errors import StatusError

if TYPE_CHECKING:
    from patches.model.json_values import Json, Op


@patches.command("set")
@document_argument
@click.argument("path")
@click.argument("value")
@click.option("--create", is_flag=True, help="Make the document if there is none.")
@with_session
async def set_(session: Session, doc_id: str, path: str, value: str, create: bool) -> None:
    """Set what is at PATH. VALUE is JSON, @FILE, or - for standard input."""
    found = json_of(value)
    doc = await session.document(doc_id, create=create)
    doc.apply([{"op": "replace", "path": path, "value": found}])
    await session.confirm(doc)


@patches.command()
@document_argument
@click.argument("rev", type=click.IntRange(min=1))
@with_session
async def restore(session: Session, doc_id: str, rev: int) -> None:
    """Make the document what it was at a revision. It is an edit like any other."""
    session.require_server()
    doc = await session.document(doc_id)
    await doc.restore(rev)
    await session.confirm(doc)


@patches.command()
@document_argument
@click.argument("target", metavar="NEW")
@with_session
async def cp(session: Session, doc_id: str, target: str) -> None:
    """Make the document NEW with the state of DOC."""
    doc = await session.document(doc_id)
    await _create(session, target, doc.raw, doc.algorithm)


@patches.command()
@document_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_session
async def rm(session: Session, doc_id: str, yes: bool) -> None:
    """Delete a document, here and on the server, for everybody."""
    doc = await session.document(doc_id)
    if not yes:
        click.confirm(f"Delete {doc_id!r} for everybody?", abort=True)
    await session.patches.close_doc(doc.id)
    await session.patches.delete_doc(doc_id)
    if not session.settings.is_local:
        session.require_server()


@patches.command("export")
@document_argument
@click.argument("file", type=click.File("wb"), default="-")
@with_session
async def export(session: Session, doc_id: str, file: IO[bytes]) -> None:
    """Write a document to FILE, which `import` and `patches-server import` read."""
    from patches.model.exports import export_lines

    doc = await session.document(doc_id)
    header: dict[str, Json] = {
        "docId": doc_id, "algorithm": doc.algorithm, "rev": doc.committed_rev, "history": False,
    }  # fmt: skip

    async def records() -> AsyncIterator[Mapping[str, Json]]:
        yield {"state": doc.raw}

    async for line in export_lines(header, records()):
        file.write(line)


@patches.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--as", "doc_id", metavar="DOC", help="The id, if not that of the export.")
@with_session
async def import_(session: Session, file: IO[bytes], doc_id: str | None) -> None:
    """Make a document of an export. Its history is not imported; `patches-server import` does."""
    from patches.model.exports import read_export

    imported = await read_export(file)
    header = imported.header
    state: Json = next((each["state"] for each in imported.records if "state" in each), {})
    await _create(session, doc_id or header["docId"], state, header["algorithm"])


@patches.command()
@document_argument
@click.argument("path", default="")
@with_session
async def edit(session: Session, doc_id: str, path: str) -> None:
    """Edit a document, or the part at PATH, in $VISUAL or $EDITOR.

    What others write meanwhile is merged. Nothing is sent if nothing was changed.
    """
    from patches.cli.editing import edited

    doc = await session.document(doc_id)
    opened = doc.raw
    file = await edited(part_of(opened, path, doc_id))
    if file is None:
        return
    try:
        ops = changes_since(opened, doc.raw, path, file.value)
        if ops:
            doc.apply(ops)
            await session.confirm(doc)
    except Exception:
        click.echo(f"what you wrote is in {file.path}", err=True)
        raise
    file.remove()


def changes_since(opened: Json, now: Json, path: str, value: Json) -> list[Op]:
    """Operations for the state `now` that do what setting `path` to `value` does to `opened`."""
    from patches.documents.draft import ops_to_reach
    from patches.json_patch import apply_patch, transform_patch

    wanted = apply_patch(opened, [{"op": "replace", "path": path, "value": value}], strict=True)
    mine = ops_to_reach(opened, wanted)
    foreign = ops_to_reach(opened, now)
    return transform_patch(opened, foreign, mine) if foreign else mine


def json_of(text: str) -> Json:
    """A value as a terminal gives it: JSON, `@file`, or `-`. Raises `click.BadParameter`."""
    from patches.model import codec

    try:
        if text == "-":
            return codec.decode(sys.stdin.buffer.read())
        if text.startswith("@"):
            return codec.decode(Path(text[1:]).read_bytes())
        return codec.decode(os.fsencode(text))
    except OSError as error:
        raise click.BadParameter(str(error), param_hint="VALUE") from error
    except ValueError as error:
        hint = "" if text[:1] in "@-" else f"; a string has quotes: '\"{text}\"'"
        raise click.BadParameter(f"this is no JSON{hint}", param_hint="VALUE") from error


async def _create(session: Session, doc_id: str, state: Any, algorithm: str) -> None:
    known = doc_id in session.patches.tracked_docs
    doc = await session.patches.open_doc(doc_id, algorithm=None if known else algorithm)
    if session.sync is not None:
        await session.confirm(doc)  # whether the server has it
    if doc.raw not in ({}, None) or doc.committed_rev:
        raise StatusError(409, f"document {doc_id!r} exists")
    doc.set({} if state is None else state)
    await session.confirm(doc)
