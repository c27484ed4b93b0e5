"""Who else is in a document: rooms, states and cursors, over the connection of a `PatchesSync`.

Nothing here is stored, and no document is changed.
"""

from patches.sync.presence.presence import Room

__all__ = ["Room"]
