"""Last write wins per field: the client's algorithm, and the functions the server shares."""

from patches.algorithms.lww.algorithm import LWWAlgorithm
from patches.algorithms.lww.batcher import LWWBatcher
from patches.algorithms.lww.consolidate import (
    Consolidation,
    consolidate_field_op,
    consolidate_into,
    consolidate_ops,
    convert_delta_ops,
)
from patches.algorithms.lww.doc import LWWDoc
from patches.algorithms.lww.field_table import FieldTable
from patches.algorithms.lww.merge import merge_server_with_local

__all__ = [
    "Consolidation",
    "FieldTable",
    "LWWAlgorithm",
    "LWWBatcher",
    "LWWDoc",
    "consolidate_field_op",
    "consolidate_into",
    "consolidate_ops",
    "convert_delta_ops",
    "merge_server_with_local",
]
