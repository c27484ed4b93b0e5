"""What serves the documents of one algorithm, and what a server knows of an algorithm.

An algorithm registers with one `ServedAlgorithm`; `patches_server.algorithms` lists those that are
here. Routes, backends, backup and doctor ask it and name none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from patches.limits import Limits
from patches.model.change import Change
from patches.model.json_values import Json
from patches.runtime import Millis, Runtime
from patches_server.documents.backend import Backend
from patches_server.documents.checkup import Checkup
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.records import Branch, ListVersionsOptions, Version


class HistoryManager(Protocol):
    """Versions of one algorithm's documents."""

    async def list_versions(
        self, doc_id: str, options: ListVersionsOptions | None = None
    ) -> Sequence[Version]: ...
    async def create_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None: ...
    async def update_version(
        self, doc_id: str, version_id: str, metadata: Mapping[str, Json]
    ) -> None: ...
    async def get_version_state(self, doc_id: str, version_id: str) -> Any: ...
    async def get_version_changes(self, doc_id: str, version_id: str) -> Sequence[Change]: ...
    async def get_state_before_version(self, doc_id: str, version_id: str) -> Any: ...


class BranchManager(Protocol):
    """Branches of one algorithm's documents."""

    async def find_source(self, branch_id: str) -> str | None: ...
    async def get_source_doc_id(self, branch_id: str) -> str: ...
    async def list_branches(
        self, doc_id: str, *, since: Millis | None = None
    ) -> Sequence[Branch]: ...
    async def create_branch(
        self, doc_id: str, rev: int, metadata: Mapping[str, Json] | None = None
    ) -> str: ...
    async def update_branch(self, branch_id: str, metadata: Mapping[str, Json]) -> None: ...
    async def delete_branch(self, branch_id: str) -> None: ...
    async def merge_branch(self, branch_id: str) -> Sequence[Change]: ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that serves the documents of one algorithm."""

    documents: DocumentServer
    history: HistoryManager | None = None
    branches: BranchManager | None = None


@dataclass(frozen=True, slots=True)
class ServedAlgorithm:
    """What a server knows of an algorithm.

    `serve` makes its services on a backend, from which it opens its store. `checkup` knows its
    tables in a server's SQLite file; `None` if it has none there.
    """

    name: str
    serve: Callable[[Backend, Limits | None, Runtime | None], Services]
    checkup: Checkup | None = None
