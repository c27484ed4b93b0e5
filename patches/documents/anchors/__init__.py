"""Anchors: positions in texts and lists that hold while the document is edited.

`positions` (pure) moves one place behind one operation; `feed` collects the operations of a
document; `anchor` is what users hold. Knows no algorithm.
"""

from patches.documents.anchors.anchor import Anchor, Span
from patches.documents.anchors.feed import Feed

__all__ = ["Anchor", "Feed", "Span"]
