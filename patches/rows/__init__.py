"""Rows: tables declared from plain classes, changes of rows as JSON Patch, and conditions.

Shared by the algorithms whose documents are tables. Knows no algorithm, no document and no network.
"""

from patches.rows.condition_syntax import F, claim, parse_condition
from patches.rows.conditions import Claim, Condition
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
    "Claim",
    "Column",
    "Condition",
    "F",
    "Row",
    "RowOp",
    "Schema",
    "Table",
    "apply_row_ops",
    "claim",
    "diff_rows",
    "invert_row_ops",
    "parse_condition",
    "parse_row_ops",
    "touched_by",
]
