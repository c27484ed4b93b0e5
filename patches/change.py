"""Changes, for those who write them by hand: the public name of `patches.model.change`."""

from patches.model.change import Change, ChangeInput, QuarantinedChange, Snapshot, TrackedDoc

__all__ = ["Change", "ChangeInput", "QuarantinedChange", "Snapshot", "TrackedDoc"]
