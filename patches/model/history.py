"""`History`: which history of a document a copy belongs to.

A server's revisions number the changes of one history. When its storage is replaced or set back, or
the document is deleted and made again, the same revisions number other changes. The server names a
history by an opaque token; the newest change of a copy, by its revision and id, shows how far
the copy has followed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from patches.model.json_values import Json


@dataclass(frozen=True, slots=True)
class History:
    """What a copy of a document knows of its history; stored with it.

    `token` is `None` until a server has given one. `last_id` is the id of the change that made
    `last_rev`, `None` where that is not known.
    """

    token: str | None = None
    last_rev: int = 0
    last_id: str | None = None

    def after(self, rev: int, change_id: str | None) -> History:
        """The history of a copy that has received one more change."""
        return History(self.token, rev, change_id)

    def options(self) -> dict[str, Json]:
        """What a request says of the copy; it also asks for the token."""
        if self.last_id is None:
            return {"token": self.token}
        return {"token": self.token, "last": [self.last_rev, self.last_id]}


#: Of a copy that has received nothing.
NO_HISTORY: Final = History()


def history_in(metadata: Any, head: int, last_id: str | None) -> History:
    """The history that a snapshot is of, from the members beside its state.

    `last_id` is that of its last change, which is at `head`, if it has one.
    """
    token, last = metadata.get("token"), metadata.get("last")
    if last_id is None and isinstance(last, list) and len(last) == 2 and last[0] == head:
        last_id = last[1] if isinstance(last[1], str) else None
    return History(token if isinstance(token, str) else None, head, last_id)
