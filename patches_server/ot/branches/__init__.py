"""Branches of OT documents: making them, and merging them back."""

from patches_server.ot.branches.manager import ContentDuplicationGuard, OTBranchManager

__all__ = ["ContentDuplicationGuard", "OTBranchManager"]
