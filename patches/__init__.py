"""Patches: JSON documents that several people, services and agents edit at once.

A name is imported when it is first used, so that importing a part, such as `patches.json_patch`,
loads that part and what lies below it, and neither asyncio nor the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

#: The version of this package and of `patches_server`.
__version__ = "0.1.0"

if TYPE_CHECKING:
    from patches.aio.signals import Signal
    from patches.client.patches import Patches
    from patches.documents.document import Document
    from patches.documents.undo import UndoManager
    from patches.errors import PatchError, PatchesError
    from patches.limits import Limits
    from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
    from patches.options import DocOptions
    from patches.runtime import Runtime
    from patches.sync import PatchesSync, SyncedDoc, SyncState

__all__ = [
    "Change",
    "DocOptions",
    "Document",
    "Limits",
    "PatchError",
    "Patches",
    "PatchesError",
    "PatchesSync",
    "QuarantinedChange",
    "Runtime",
    "Signal",
    "Snapshot",
    "SyncState",
    "SyncedDoc",
    "TrackedDoc",
    "UndoManager",
]

#: Where each name is defined. The block above says the same to type checkers.
_HOMES = {
    "Change": "patches.model.change",
    "DocOptions": "patches.options",
    "Document": "patches.documents.document",
    "Limits": "patches.limits",
    "PatchError": "patches.errors",
    "Patches": "patches.client.patches",
    "PatchesError": "patches.errors",
    "PatchesSync": "patches.sync",
    "QuarantinedChange": "patches.model.change",
    "Runtime": "patches.runtime",
    "Signal": "patches.aio.signals",
    "Snapshot": "patches.model.change",
    "SyncState": "patches.sync",
    "SyncedDoc": "patches.sync",
    "TrackedDoc": "patches.model.change",
    "UndoManager": "patches.documents.undo",
}

if not TYPE_CHECKING:  # else every name would be there for a type checker

    def __getattr__(name: str) -> object:
        """Import a public name, or a module of this package, at its first use (PEP 562)."""
        home = _HOMES.get(name)
        if home is not None:
            value = getattr(import_module(home), name)
            globals()[name] = value
            return value
        if not name.startswith("_"):
            try:
                return import_module(f"{__name__}.{name}")
            except ModuleNotFoundError as exc:
                if exc.name != f"{__name__}.{name}":
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
