"""What all commands have in common: the group, its options, and how an error ends it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from patches.cli import output
from patches.cli.session import NotConfirmedError, Session, Settings, opened
from patches.errors import (
    ChangeRefusedError,
    DocDeletedError,
    ForbiddenError,
    NetworkError,
    NotFoundError,
    PatchesError,
    ReadOnlyError,
    StatusError,
    UnauthorizedError,
)

P = ParamSpec("P")


class Exit(IntEnum):
    """How the command ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    NO_CONNECTION = 5
    NOT_CONFIRMED = 6
    QUARANTINED = 7
    INTERRUPTED = 130


def exit_of(error: BaseException) -> Exit:
    """The exit status of an error."""
    if isinstance(error, NotConfirmedError):
        return Exit.NOT_CONFIRMED
    if isinstance(error, NotFoundError | DocDeletedError):
        return Exit.NOT_FOUND
    if isinstance(error, ChangeRefusedError | ForbiddenError | ReadOnlyError | UnauthorizedError):
        return Exit.REFUSED
    if isinstance(error, StatusError):
        if error.code in (404, 410):
            return Exit.NOT_FOUND
        return Exit.REFUSED if 400 <= error.code < 500 else Exit.FAILED
    if isinstance(error, NetworkError):
        return Exit.NO_CONNECTION
    return Exit.FAILED


def default_store() -> Path:
    """Where documents are kept if nobody says: a file in the user's data directory."""
    import platformdirs

    return Path(platformdirs.user_data_dir("patches")) / "documents.db"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(
    package_name="patches-sync", prog_name="patches", message="%(prog)s %(version)s"
)
@click.option(
    "--store",
    envvar="PATCHES_STORE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that keeps documents here. A running program may share it.",
)
@click.option("--server", envvar="PATCHES_SERVER", metavar="URL", help="ws://host:port/ws.")
@click.option(
    "--token-file",
    envvar="PATCHES_TOKEN_FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="A file with the token to sign in with. Or set PATCHES_TOKEN.",
)
@click.option("--token", hidden=True, expose_value=False, callback=lambda _c, _p, v: _refuse(v))
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=10,
    metavar="SECONDS",
    help="How long to wait for the server.",
)
@click.option("--offline", is_flag=True, help="Work on what is stored here alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON value per line.")
@click.pass_context
def patches(
    context: click.Context,
    store: Path | None,
    server: str | None,
    token_file: str | None,
    wait_s: float,
    offline: bool,
    as_json: bool,
) -> None:
    """Read and edit documents. Works offline; edits are sent when there is a server.

    Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 no connection, 6 not confirmed
    in time, 7 changes in quarantine, 130 interrupted.
    """
    token = os.environ.get("PATCHES_TOKEN")
    if token_file is not None:
        token = Path(token_file).read_text("utf-8").strip()
    context.obj = Settings(
        store=store or default_store(), server=server, token=token, wait_s=wait_s,
        offline=offline, as_json=as_json,
    )  # fmt: skip


def _refuse(value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            "a token as an argument can be read by other users; use --token-file or PATCHES_TOKEN"
        )


def with_session(
    command: Callable[Concatenate[Session, P], Awaitable[int | None]],
) -> Callable[P, None]:
    """A command that is a coroutine over a session: run it, and end with its exit status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        import asyncio  # what `--help` does without is imported where it is needed

        context = click.get_current_context()
        settings = context.find_object(Settings)
        assert settings is not None
        name = str(context.info_name)

        async def body() -> int | None:
            async with opened(settings) as session:
                return await command(session, *args, **kwargs)

        try:
            status = asyncio.run(body())
        except (PatchesError, NotConfirmedError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            output.print_error(name, error, as_json=settings.as_json)
            status = exit_of(error)
        context.exit(int(status or 0))

    return run


def complete_id(context: click.Context, _parameter: Any, incomplete: str) -> list[str]:
    """The ids of documents here that begin like this, for the shell."""
    import asyncio

    root = context.find_root().params
    store = root.get("store") or os.environ.get("PATCHES_STORE") or default_store()
    if not Path(store).exists():
        return []
    settings = Settings(Path(store), None, None, 0.0, offline=True, as_json=False)

    async def ids() -> list[str]:
        async with opened(settings) as session:
            return sorted(session.patches.tracked_docs)

    return [each for each in asyncio.run(ids()) if each.startswith(incomplete)]


#: The argument that names a document.
document_argument: Callable[[Callable[..., Any]], Callable[..., Any]] = click.argument(
    "doc_id", metavar="DOC", shell_complete=complete_id
)
