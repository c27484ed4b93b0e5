"""`ValueShape`: an untyped document that takes values of classes with codecs.

What is written is encoded by its class; reads give what was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from patches.documents.draft.node import Node
from patches.errors import InvalidRequestError, InvalidValueError, PatchesError
from patches.json_patch.pointer import escape
from patches.model.json_values import Json, Op
from patches.typed.build import converter_of
from patches.typed.codecs import CODECS
from patches.typed.converter import Codec
from patches.typed.misfit import Misfit


class ValueShape:
    """The `Shape` of untyped documents of `Patches(encode_values=True)`."""

    type: Any = None

    def __init__(self, codecs: Mapping[type, Codec]) -> None:
        self._codecs = {**CODECS, **codecs}

    def read(self, raw: Json) -> Json:
        return raw

    def misfit_of(self, raw: Json) -> PatchesError | None:
        return None

    def base_of(self, raw: Json) -> Json:
        return raw

    def shown(self, root: Any) -> Any:
        return root

    def checked(self, raw: Json, ops: list[Op]) -> list[Op]:
        return ops

    def encode_state(self, value: Any, raw: Json) -> Json:
        return self.encode(value, "")

    def migration_of(self, raw: Json) -> tuple[list[Op], dict[str, Json]] | None:
        return None

    def encode(self, value: object, path: str) -> Json:
        """By the class of the value. Raises `InvalidValueError` for one without a codec."""
        kind = type(value)
        if value is None or kind in (str, bool, int, float) or isinstance(value, Node):
            return value
        if isinstance(value, Enum):
            return value.value
        for base in kind.__mro__:
            if base in self._codecs:
                return self._codecs[base].encode(value)
        if isinstance(value, Mapping):
            return {key: self.encode(item, f"{path}/{escape(key)}") for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            return [self.encode(item, f"{path}/{index}") for index, item in enumerate(value)]
        if isinstance(value, (set, frozenset)):
            raise InvalidValueError(
                f"value at {path!r}: a set does not merge; use a dict with True for each member",
                path=path,
            )
        try:
            return converter_of(kind, self._codecs).encode(value)
        except InvalidRequestError:
            return value  # refused where it is written, as without codecs
        except Misfit as misfit:
            raise misfit.as_error(path) from None
