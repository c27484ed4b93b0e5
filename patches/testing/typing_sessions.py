"""Typing sessions to replay: invented ones from a seed, and recordings.

A session is what one author did to one text, keystroke by keystroke. The recorded format is that of
the public editing-traces data set: `{startContent, endContent, txns: [{patches: [[position,
deleted, inserted], ...]}, ...]}`, positions counting Unicode code points.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from patches.errors import PatchesError
from patches.model import codec

#: Delete `deleted` characters at `position`, then insert `inserted` there.
TextEdit: TypeAlias = tuple[int, int, str]

_WORDS: Final = (
    "a and are before between both café change client commit copy document edit every for from "
    "has in into is it keep later line list merge message name naïve no note of offline on one "
    "or order page plan queue reader row same send server shared state store sync table text "
    "that the then they this title to two when while with word write 🙂 日本"
).split()


@dataclass(frozen=True, slots=True)
class TypingSession:
    """One author's session. Each transaction is a list of edits that belong together."""

    start: str
    end: str
    transactions: Sequence[Sequence[TextEdit]]

    @property
    def edits(self) -> int:
        """How many edits all transactions hold."""
        return sum(map(len, self.transactions))

    def first(self, count: int) -> TypingSession:
        """The session cut after `count` transactions."""
        transactions = self.transactions[:count]
        return TypingSession(self.start, replayed(self.start, transactions), transactions)


def read_recording(path: Path) -> TypingSession:
    """A sequential recording, plain or gzipped. Raises `PatchesError` for another format."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        recording = codec.decode(data)
        if recording.get("kind") == "concurrent":
            raise PatchesError(f"{path}: several authors at once; a sequential recording is needed")
        return TypingSession(
            recording["startContent"],
            recording["endContent"],
            [[tuple(patch) for patch in txn["patches"]] for txn in recording["txns"]],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise PatchesError(f"{path}: not a recording of an editing session: {exc}") from exc


def invented_session(seed: int, transactions: int) -> TypingSession:
    """A session nobody typed: words and lines, corrections, jumps to elsewhere, cuts and pastes."""
    source = random.Random(seed)
    author = _Author(source)
    typed = [author.next() for _ in range(transactions)]
    return TypingSession("", author.text, typed)


def replayed(start: str, transactions: Sequence[Sequence[TextEdit]]) -> str:
    """The text after all transactions."""
    text = start
    for transaction in transactions:
        for position, deleted, inserted in transaction:
            text = text[:position] + inserted + text[position + deleted :]
    return text


class _Author:
    """Types one transaction after another into `text`."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._cursor = 0
        self._keys: Iterator[str] = iter("")
        self.text = ""

    def next(self) -> list[TextEdit]:
        """What is done next: mostly the next key of a word, sometimes something else."""
        chance = self._random.random()
        if chance < 0.05 and self._cursor:
            return [self._edit(self._cursor - 1, 1, "")]  # a correction
        if chance < 0.058:
            self._cursor = self._random.randint(0, len(self.text))  # a jump
        elif chance < 0.062 and len(self.text) > 200:
            return self._cut_and_paste()
        elif chance < 0.065:
            return [self._edit(self._cursor, 0, self._sentence() + "\n")]  # a paste
        key = next(self._keys, None)
        if key is None:
            end = "\n" if self._random.random() < 0.1 else " "
            self._keys = iter(self._random.choice(_WORDS) + end)
            key = next(self._keys)
        return [self._edit(self._cursor, 0, key)]

    def _cut_and_paste(self) -> list[TextEdit]:
        start = self._random.randint(0, len(self.text) - 40)
        length = self._random.randint(1, 40)
        cut = self.text[start : start + length]
        removed = self._edit(start, length, "")
        return [removed, self._edit(self._random.randint(0, len(self.text)), 0, cut)]

    def _sentence(self) -> str:
        return " ".join(self._random.choices(_WORDS, k=self._random.randint(4, 20)))

    def _edit(self, position: int, deleted: int, inserted: str) -> TextEdit:
        self.text = self.text[:position] + inserted + self.text[position + deleted :]
        self._cursor = position + len(inserted)
        return (position, deleted, inserted)
