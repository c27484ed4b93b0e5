"""Options that a document, a client or a sync coordinator can be given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from patches.model.settings import check_function, check_integer

#: Gives the bytes that a change takes in a store (a compressed size, for example).
SizeCalculator: TypeAlias = Callable[[Any], float]

#: The default of `max_payload_bytes`: bytes of the list of changes in one commit.
DEFAULT_MAX_PAYLOAD_BYTES: Final = 1_000_000

_SIZES: Final = ("max_payload_bytes", "max_storage_bytes", "max_unsplittable_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocOptions:
    """How large changes and commits may be. `None` is "not given".

    Raises `InvalidRequestError` for a size that is not a positive integer, and for a
    `size_calculator` that cannot be called.
    """

    max_payload_bytes: int | None = None
    max_storage_bytes: int | None = None
    max_unsplittable_bytes: int | None = None
    size_calculator: SizeCalculator | None = None

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if value is not None:
                check_integer(name, value)
        check_function("size_calculator", self.size_calculator)

    def over(self, other: DocOptions) -> DocOptions:
        """These options, and what they leave open from `other`."""
        if other == _NONE:
            return self
        return DocOptions(
            max_payload_bytes=_first(self.max_payload_bytes, other.max_payload_bytes),
            max_storage_bytes=_first(self.max_storage_bytes, other.max_storage_bytes),
            max_unsplittable_bytes=_first(
                self.max_unsplittable_bytes, other.max_unsplittable_bytes
            ),
            size_calculator=self.size_calculator or other.size_calculator,
        )

    def up_to(self, max_payload_bytes: int) -> DocOptions:
        """These options, with commits of at most so many bytes."""
        payload = min(self.max_payload_bytes or max_payload_bytes, max_payload_bytes)
        return DocOptions(max_payload_bytes=payload).over(self)


_NONE: Final = DocOptions()


def _first(value: int | None, fallback: int | None) -> int | None:
    return value if value is not None else fallback
