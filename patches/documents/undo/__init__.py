"""Undo and redo of one's own edits: the manager and its steps.

Knows no algorithm: how a reversal follows other people's work is decided by the `UndoRules` of the
document's algorithm (`documents/reversals.py`).
"""

from patches.documents.undo.manager import UndoManager
from patches.documents.undo.steps import Step

__all__ = ["Step", "UndoManager"]
