"""Exports of documents: the format `patches-export` 1, written and checked.

JSON lines: a header, one record each, and an end with the number of records and the SHA-256 of all
lines before it. A file that was cut or altered is refused, with the line that is at fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from patches.errors import ImportFileError, InvalidJsonError
from patches.model import codec
from patches.model.json_values import Json

FORMAT: Final = "patches-export"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Imported:
    """An export that was read whole."""

    header: Mapping[str, Any]
    records: list[Mapping[str, Any]]


async def export_lines(
    header: Mapping[str, Json], records: AsyncIterable[Mapping[str, Json]]
) -> AsyncIterator[bytes]:
    """The lines of an export."""
    digest, count = hashlib.sha256(), 0

    def line(value: Json) -> bytes:
        encoded = codec.encode(value) + b"\n"
        digest.update(encoded)
        return encoded

    yield line({"format": FORMAT, "version": VERSION, **header})
    async for record in records:
        count += 1
        yield line(dict(record))
    yield codec.encode({"end": {"records": count, "sha256": digest.hexdigest()}}) + b"\n"


async def read_export(source: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> Imported:
    """An export, checked whole. Raises `ImportFileError` naming the line."""
    digest, number = hashlib.sha256(), 0
    lines: list[Mapping[str, Any]] = []
    ended = False
    async for line in _lines(source):
        number += 1
        if ended:
            raise ImportFileError(number, "there is more after the end")
        try:
            value = codec.decode(line)
        except (InvalidJsonError, ValueError) as exc:
            raise ImportFileError(number, "this line is no JSON, or was cut") from exc
        if not isinstance(value, dict):
            raise ImportFileError(number, "a line is a JSON object")
        if number == 1:
            _check_header(value)
        if "end" in value:
            _check_end(number, value["end"], len(lines) - 1, digest.hexdigest(), line)
            ended = True
            continue
        digest.update(line)
        lines.append(value)
    if not ended:
        raise ImportFileError(number, "the file was cut: it has no end")
    return Imported(lines[0], lines[1:])


def _check_header(value: Mapping[str, Any]) -> None:
    if value.get("format") != FORMAT:
        raise ImportFileError(1, "this is no export of a document")
    if value.get("version") != VERSION:
        raise ImportFileError(1, f"version {value.get('version')!r} is newer than this program")
    if not isinstance(value.get("docId"), str) or not isinstance(value.get("algorithm"), str):
        raise ImportFileError(1, "the header names no document")


def _check_end(number: int, end: Any, records: int, digest: str, line: bytes) -> None:
    if not isinstance(end, dict) or end.get("records") != records:
        raise ImportFileError(number, f"the file says it has another number of records: {end!r}")
    if end.get("sha256") != digest:
        raise ImportFileError(number, "the file was altered: its checksum is another")
    if not line.endswith(b"\n"):
        raise ImportFileError(number, "the file was cut")


async def _lines(source: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    left = b""
    async for chunk in _chunks(source):
        *whole, left = (left + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if left:
        yield left


async def _chunks(source: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, AsyncIterable):
        async for chunk in source:
            yield chunk
    else:
        for chunk in source:
            yield chunk
