"""What a `PatchesSync` shows: frozen values, a new one per change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from patches.model.change import DocSyncStatus

#: `"initial"`: the first full sync since `connect`; `"updating"`: a later one; `None`: at rest; an
#: exception: why there is no full sync, or no connection.
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
