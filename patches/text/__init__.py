"""Rich text: deltas, measured in UTF-16 code units.

Pure. Knows no operation of JSON Patch and no document.
"""

from patches.text.algebra import compose, invert, transform, transform_position
from patches.text.attributes import (
    compose_attributes,
    diff_attributes,
    invert_attributes,
    transform_attributes,
)
from patches.text.delta import Delta, ops_of, text_of
from patches.text.document import apply_to_text, text_ops_of
from patches.text.ops import DeltaOp, is_delta, op_length
from patches.text.utf16 import (
    python_index,
    utf16_index,
    utf16_key,
    utf16_length,
    utf16_slice,
)

__all__ = [
    "Delta",
    "DeltaOp",
    "apply_to_text",
    "compose",
    "compose_attributes",
    "diff_attributes",
    "invert",
    "invert_attributes",
    "is_delta",
    "op_length",
    "ops_of",
    "python_index",
    "text_of",
    "text_ops_of",
    "transform",
    "transform_attributes",
    "transform_position",
    "utf16_index",
    "utf16_key",
    "utf16_length",
    "utf16_slice",
]
