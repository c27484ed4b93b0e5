"""`Trace`: what happened in a run, line by line, and one hash over all of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import IO


class Trace:
    """Keeps the last lines and a rolling hash; writes all lines to `file`, if one is given."""

    def __init__(self, *, keep: int = 50, file: IO[str] | None = None) -> None:
        self.last: deque[str] = deque(maxlen=keep)
        self.count: int = 0
        self._hash = hashlib.sha256()
        self._file = file

    def add(self, node: object, event: str, detail: object = "") -> None:
        """Note an event at the present virtual time."""
        line = f"{asyncio.get_running_loop().time() * 1000:.3f} {node} {event} {detail}"
        self.count += 1
        self._hash.update(line.encode("utf-8", "surrogatepass"))
        self.last.append(line)
        if self._file is not None:
            self._file.write(line.encode("utf-8", "backslashreplace").decode() + "\n")

    @property
    def digest(self) -> str:
        """The hash of all lines so far."""
        return self._hash.hexdigest()
