"""JSON Patch over plain JSON values: apply, transform, compose, invert, and a builder.

Pure: values in, values out. Knows no document and no algorithm.
"""

from patches.json_patch import pointer
from patches.json_patch.apply import apply_patch
from patches.json_patch.bitmask import apply_bitmask, bitmask, combine_bitmasks
from patches.json_patch.compose import compose_patch
from patches.json_patch.invert import invert_patch
from patches.json_patch.javascript import ABSENT
from patches.json_patch.kinds import CustomOp, CustomOps, Like, exists, is_soft, soft_filter
from patches.json_patch.patch import JSONPatch, create_json_patch
from patches.json_patch.path_proxy import PathProxy
from patches.json_patch.transform.transform import transform_patch

__all__ = [
    "ABSENT",
    "CustomOp",
    "CustomOps",
    "JSONPatch",
    "Like",
    "PathProxy",
    "apply_bitmask",
    "apply_patch",
    "bitmask",
    "combine_bitmasks",
    "compose_patch",
    "create_json_patch",
    "exists",
    "invert_patch",
    "is_soft",
    "pointer",
    "soft_filter",
    "transform_patch",
]
