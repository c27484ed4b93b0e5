"""What the command prints: one line per value, for people or as JSON, and one line per error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL_OR_BREAK: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str, *, one_line: bool = True) -> str:
    """`text` with its control characters escaped: a document cannot steer a terminal."""
    pattern = _CONTROL_OR_BREAK if one_line else _CONTROL
    return pattern.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def print_value(value: Any, *, as_json: bool) -> None:
    """A JSON value: on one line with `--json`, else indented."""
    from patches.model import codec

    if as_json:
        click.echo(codec.encode(value).decode("utf-8", "surrogatepass"))
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=not _takes_unicode()))


def print_text(text: str) -> None:
    """Text of a document. On a terminal its control characters are escaped."""
    click.echo(printable(text, one_line=False) if sys.stdout.isatty() else text)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A table: a JSON object per line with `--json`, else aligned columns."""
    if as_json:
        for row in rows:
            print_value(dict(row), as_json=True)
        return
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    if not cells:
        return
    if sys.stdout.isatty() and _print_rich(columns, cells):
        return
    headings = [name.replace("_", " ") for name in columns]
    for line in _aligned([headings, *cells]):
        click.echo(line)


def print_error(command: str, error: BaseException, *, as_json: bool, hint: str = "") -> None:
    """One line on stderr."""
    message = printable(str(error) or type(error).__name__)
    if as_json:
        code = getattr(error, "code", None)
        said = {"error": type(error).__name__, "message": message, "code": code, "hint": hint}
        click.echo(json.dumps(said), err=True)
    else:
        click.echo(f"patches {command}: {message}" + (f"; {hint}" if hint else ""), err=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return printable(str(value))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield line.rstrip()


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> bool:
    """Print a table by the library `rich`, if it is installed and colour is wanted."""
    if "NO_COLOR" in os.environ:
        return False
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)
    return True


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
