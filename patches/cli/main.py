"""`main`: the command `patches`, with all its commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from patches.cli import quarantine, reading, writing
from patches.cli.commands import Exit, patches

__all__ = ["main", "quarantine", "reading", "writing"]


@patches.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and ids: put it into its start file."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(patches, {}, "patches", "_PATCHES_COMPLETE").source())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status. `arguments`: those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = patches.main(given, prog_name="patches", standalone_mode=False)
    except click.Abort:
        click.echo("patches: interrupted", err=True)
        return Exit.INTERRUPTED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except BrokenPipeError:
        # Whoever read it has read enough. What is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    return int(status or 0)
