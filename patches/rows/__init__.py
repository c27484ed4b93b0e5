"""Rows: tables declared from plain classes, and changes of rows as JSON Patch.

Shared by the algorithms whose documents are tables. Knows no algorithm, no document and no network.
"""

from patches.rows.row_ops import (
    Row,
    RowOp,
    apply_row_ops,
    diff_rows,
    invert_row_ops,
    parse_row_ops,
    touched_by,
)
from patches.rows.schema import Column, Schema, Table

__all__ = [
    "Column",
    "Row",
    "RowOp",
    "Schema",
    "Table",
    "apply_row_ops",
    "diff_rows",
    "invert_row_ops",
    "parse_row_ops",
    "touched_by",
]
