"""Who else is in a document: rooms, states and cursors, over the connection of a `PatchesSync`."""

from patches.sync.presence.presence import Room

__all__ = ["Room"]
