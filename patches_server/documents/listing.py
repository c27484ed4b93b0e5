"""Lists of documents: what a backend knows of each, and pages of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from patches.errors import InvalidRequestError
from patches.model.json_values import Json
from patches.runtime import Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDoc:
    """What a backend records of a document; `deleted_at` of a tombstone."""

    doc_id: str
    algorithm: str | None
    created_at: Millis | None
    deleted_at: Millis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocInfo:
    """A document in a list. `bytes` is about its size, where that is known."""

    doc_id: str
    algorithm: str | None
    rev: int
    created_at: Millis | None
    modified_at: Millis | None
    deleted_at: Millis | None = None
    bytes: int | None = None

    def to_wire(self) -> dict[str, Json]:
        """The wire object."""
        return {
            "docId": self.doc_id,
            "algorithm": self.algorithm,
            "rev": self.rev,
            "createdAt": self.created_at,
            "modifiedAt": self.modified_at,
            "deletedAt": self.deleted_at,
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some documents, and where the next page begins: `None` after the last one."""

    items: Sequence[DocInfo]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What an algorithm knows of a document beside its state."""

    rev: int
    modified_at: Millis | None = None
    bytes: int | None = None


class ListsDocuments(Protocol):
    """A backend that can list its documents."""

    async def list_docs(
        self, prefix: str, *, after: str | None, limit: int, deleted: bool
    ) -> list[ListedDoc]:
        """Documents whose ids begin with `prefix` and come after an id, in the order of ids; with
        `deleted`, those that were deleted."""

    async def count_docs(self, prefix: str) -> int:
        """How many there are."""


def end_of_prefix(prefix: str) -> str:
    """What every id with this prefix is smaller than, but for ids of the last character of all."""
    return prefix + "\U0010ffff"


def cursor_of(doc_id: str) -> str:
    """An opaque name of the place after a document."""
    return base64.urlsafe_b64encode(doc_id.encode("utf-8", "surrogatepass")).decode()


def place_of(cursor: str) -> str:
    """The id that a cursor stands for. Raises `InvalidRequestError`."""
    try:
        return base64.urlsafe_b64decode(cursor.encode()).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError, AttributeError) as exc:
        raise InvalidRequestError(f"{cursor!r:.60} is no cursor of a list") from exc
