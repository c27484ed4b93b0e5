"""Patterns of document ids: `*` stands for any characters, `/` too; nothing else is special."""

from __future__ import annotations

import re


def pattern_of(text: str) -> re.Pattern[str]:
    """The expression that matches the whole of an id."""
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
