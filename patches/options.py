"""Options that a document, a client or a sync coordinator can be given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

#: Gives the bytes that a change takes in a store (a compressed size, for example).
SizeCalculator: TypeAlias = Callable[[Any], float]

#: Bytes of one commit's change list on the wire, unless told otherwise.
DEFAULT_MAX_PAYLOAD_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DocOptions:
    """How large changes and commits may be. `None` is "not given" (`spec/ot.md` 7.1)."""

    max_payload_bytes: int | None = None
    max_storage_bytes: int | None = None
    max_unsplittable_bytes: int | None = None
    size_calculator: SizeCalculator | None = None

    def over(self, other: DocOptions) -> DocOptions:
        """These options, and what they leave open from `other`."""
        return DocOptions(
            max_payload_bytes=_first(self.max_payload_bytes, other.max_payload_bytes),
            max_storage_bytes=_first(self.max_storage_bytes, other.max_storage_bytes),
            max_unsplittable_bytes=_first(
                self.max_unsplittable_bytes, other.max_unsplittable_bytes
            ),
            size_calculator=self.size_calculator or other.size_calculator,
        )


def _first(value: int | None, fallback: int | None) -> int | None:
    return value if value is not None else fallback
