"""The draft: what `doc.change(fn)` gives to `fn`, and what it becomes."""

from patches.draft.diff import ops_to_reach
from patches.draft.foreign import plain_ops
from patches.draft.mapping import DraftDict
from patches.draft.record import Draft, draft_of, record
from patches.draft.sequence import DraftList
from patches.draft.text import DraftText

__all__ = [
    "Draft",
    "DraftDict",
    "DraftList",
    "DraftText",
    "draft_of",
    "ops_to_reach",
    "plain_ops",
    "record",
]
