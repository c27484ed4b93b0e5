"""Transforming operations against others that were applied first. Pure.

`transform` is the entry; `passes` holds the rules by kind of operation.
"""

from patches.json_patch.transform.transform import transform_patch

__all__ = ["transform_patch"]
