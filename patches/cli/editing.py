"""A value in the user's editor, while the program goes on receiving what others write."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from patches.errors import PatchesError
from patches.model import codec
from patches.model.json_values import Json


@dataclass(frozen=True, slots=True)
class Edited:
    """What the user made of a value. `path` keeps it until it is stored."""

    value: Json
    path: Path

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def editor() -> list[str]:
    """The user's editor, as a command."""
    for name in ("VISUAL", "EDITOR"):
        command = os.environ.get(name, "").strip()
        if command:
            return shlex.split(command)
    return ["vi"]


async def edited(value: Json) -> Edited | None:
    """Let the user edit a value as JSON; `None` if it stayed the same.

    JSON that cannot be read can be edited again. Raises `PatchesError` if the user gives up, or the
    editor fails; the message names the file.
    """
    before = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    handle, name = tempfile.mkstemp(prefix="patches-", suffix=".json")
    path = Path(name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(before)
    while True:
        await _run([*editor(), name], path)
        text = await asyncio.to_thread(path.read_text, "utf-8")
        if text == before:
            Edited(value, path).remove()
            return None
        try:
            return Edited(codec.decode(text.encode()), path)
        except ValueError as error:
            click.echo(f"This is no JSON: {error}", err=True)
            if not await asyncio.to_thread(click.confirm, "Edit it again?", default=True):
                raise PatchesError(f"nothing was changed; what you wrote is in {path}") from error


async def _run(command: list[str], path: Path) -> None:
    try:
        process = await asyncio.create_subprocess_exec(*command)
    except OSError as error:
        raise PatchesError(f"{command[0]}: {error.strerror}; set EDITOR") from error
    if await process.wait() != 0:
        raise PatchesError(f"{command[0]} failed; what you wrote is in {path}")
