"""Options that a document, a client or a sync coordinator can be given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from patches.errors import InvalidRequestError

T = TypeVar("T")

#: Gives the bytes that a change takes in a store (a compressed size, for example).
SizeCalculator: TypeAlias = Callable[[Any], float]

#: Bytes of one commit's change list on the wire, unless told otherwise.
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
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise InvalidRequestError(f"{name} must be a positive integer, not {value!r}")
        if self.size_calculator is not None and not callable(self.size_calculator):
            raise InvalidRequestError(
                f"size_calculator must be a function, not {self.size_calculator!r}"
            )

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

    def up_to(self, max_payload_bytes: int) -> DocOptions:
        """These options, with commits of at most so many bytes."""
        payload = min(self.max_payload_bytes or max_payload_bytes, max_payload_bytes)
        return DocOptions(max_payload_bytes=payload).over(self)


def instance_or(default: Callable[[], T], name: str, value: T | None, kind: type[T]) -> T:
    """A setting that must be of a class, or its default. Raises `InvalidRequestError`."""
    if value is None:
        return default()
    if not isinstance(value, kind):
        raise InvalidRequestError(f"{name} must be {kind.__name__} or None, not {value!r}")
    return value


def _first(value: int | None, fallback: int | None) -> int | None:
    return value if value is not None else fallback
