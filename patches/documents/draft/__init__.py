"""The draft: what `doc.change(fn)` gives to `fn`, and the operations that it becomes.

Pure. Knows no algorithm and no document.
"""

from patches.documents.draft.diff import ops_to_reach
from patches.documents.draft.foreign import plain_ops
from patches.documents.draft.mapping import DraftDict
from patches.documents.draft.node import DraftTyping
from patches.documents.draft.record import draft_of, record
from patches.documents.draft.sequence import DraftList
from patches.documents.draft.text import DraftText

__all__ = [
    "DraftDict",
    "DraftList",
    "DraftText",
    "DraftTyping",
    "draft_of",
    "ops_to_reach",
    "plain_ops",
    "record",
]
