"""An open document: the draft that edits it, its subscribers, and its unsaved edits.

Knows no algorithm, no store and no network.
"""

from patches.documents.document import Document

__all__ = ["Document"]
