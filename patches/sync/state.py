"""What a `PatchesSync` shows: frozen values, a new one per change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from patches.model.change import DocSyncStatus

#: `"initial"`: the first full sync since `connect`; `"updating"`: a later one; `None`: at rest; an
#: exception: why there is none.
Syncing: TypeAlias = Literal["initial", "updating"] | Exception | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncState:
    """Where the connection and the full sync are."""

    online: bool = True
    connected: bool = False
    syncing: Syncing = None


@dataclass(frozen=True, slots=True)
class SyncedDoc:
    """Where one tracked document is. `error` only with the status `"error"`."""

    committed_rev: int
    has_pending: bool
    status: DocSyncStatus
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorContext(Mapping[str, Any]):
    """What a failure is about: attributes, also readable as a mapping; absent ones are `None`."""

    doc_id: str | None = None

    def __getitem__(self, name: str) -> Any:
        if name not in list(self):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self) if getattr(self, field.name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
