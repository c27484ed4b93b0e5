"""`TypedShape`: the `Shape` of a document that was opened with a type."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final, Literal

from patches.documents.draft.node import Node, plain_value
from patches.errors import PatchesError, ShapeTooNewError, StateTypeError
from patches.json_patch import ABSENT, apply_patch
from patches.json_patch.pointer import escape, last_key, parent, unescape, value_at
from patches.model.json_values import Json, Op
from patches.typed.converter import Converter
from patches.typed.drafts import TypedPart, shown_root
from patches.typed.migrations import Migrations
from patches.typed.misfit import Misfit, keys_of
from patches.typed.records import Record

_NUMBERS: Final = frozenset({"@inc", "@bit"})


class TypedShape:
    """Reads and checks one document. `docs/typed.md` has the rules."""

    def __init__(
        self,
        doc_id: str,
        type_: Any,
        converter: Converter[Any],
        *,
        default: Any = None,
        check: Literal["values", "whole"] = "values",
        on_misfit: Literal["raise", "last"] = "raise",
        migrations: Migrations | None = None,
    ) -> None:
        """Raises `StateTypeError` for a default that is of another type."""
        self.type = type_
        self._doc_id, self._converter = doc_id, converter
        self._checks_whole, self._keeps_last = check == "whole", on_misfit == "last"
        self._migrations = migrations
        self._default: dict[str, Json] = {}
        if default is not None:
            self._default = dict(self._encoded(converter, default, "", full=True))
        self._read: tuple[Json, Json, Any] | None = None  # the last state that fitted
        self._misfit: tuple[Json, PatchesError] | None = None  # the last state that did not

    # ---- reading ---------------------------------------------------------------------------------

    def read(self, raw: Json) -> Any:
        if self._read is not None and self._read[0] is raw:
            return self._read[2]
        misfit = self.misfit_of(raw)
        if misfit is None or (self._keeps_last and self._read is not None):
            assert self._read is not None
            return self._read[2]
        raise misfit.with_traceback(None)

    def misfit_of(self, raw: Json) -> PatchesError | None:
        if self._read is not None and self._read[0] is raw:
            return None
        if self._misfit is not None and self._misfit[0] is raw:
            return self._misfit[1]
        try:
            self._check_shape(raw)
            base = self.base_of(raw)
            before = None if self._read is None else self._read[1:]
            self._read = (raw, base, self._converter.decode(base, before))
        except Misfit as misfit:
            self._misfit = (raw, self._as_error(misfit, raw))
        except ShapeTooNewError as exc:
            self._misfit = (raw, exc)
        else:
            self._misfit = None
            return None
        return self._misfit[1]

    def base_of(self, raw: Json) -> Json:
        if not isinstance(raw, dict) or not self._default:
            return raw
        if self._read is not None and self._read[0] is raw:
            return self._read[1]
        missing = {key: value for key, value in self._default.items() if key not in raw}
        return {**raw, **missing} if missing else raw

    # ---- editing ---------------------------------------------------------------------------------

    def shown(self, root: Any) -> Any:
        return shown_root(self._converter, root)

    def encode(self, value: object, path: str) -> Json:
        if isinstance(value, Node) or issubclass(type(value), TypedPart):
            return plain_value(value._readable() if issubclass(type(value), TypedPart) else value)  # type: ignore[attr-defined]  # a proxy
        return self._encoded(self._at(path), value, path)

    def checked(self, raw: Json, ops: list[Op]) -> list[Op]:
        self._check_shape(raw)
        base = self.base_of(raw)
        ops = self._with_defaults(raw, ops)
        for index in range(len(ops)):
            if not _starts_insertion(ops, index):
                self._check_op(base, ops, index)
        if self._checks_whole and ops:
            after = self.base_of(apply_patch(raw, ops, strict=True))
            try:
                self._converter.decode(after, None if self._read is None else self._read[1:])
            except Misfit as misfit:
                raise misfit.as_error() from None
        return ops

    def encode_state(self, value: Any, raw: Json) -> Json:
        self._check_shape(raw)
        return self._encoded(self._converter, value, "", current=raw)

    def migration_of(self, raw: Json) -> tuple[list[Op], dict[str, Json]] | None:
        if self._migrations is None or not isinstance(raw, dict) or not raw:
            return None
        ops = self._migrations.ops_for(raw)
        if not ops:
            return None
        return ops, {"migration": [self._migrations.shape_of(raw), self._migrations.current]}

    # ---- inside ----------------------------------------------------------------------------------

    def _check_shape(self, raw: Json) -> None:
        if self._migrations is not None and isinstance(raw, dict):
            shape = self._migrations.shape_of(raw)
            if shape > self._migrations.current:
                raise ShapeTooNewError(self._doc_id, shape=shape, known=self._migrations.current)

    def _as_error(self, misfit: Misfit, raw: Json) -> StateTypeError:
        error = misfit.as_error()
        if raw == {}:
            return StateTypeError(
                error.path,
                error.expected,
                error.found,
                message=f"document {self._doc_id!r} is empty; pass default=",
            )
        return error

    def _encoded(
        self,
        converter: Converter[Any],
        value: object,
        path: str,
        *,
        current: Json = ABSENT,
        full: bool = False,
    ) -> Json:
        try:
            encoded = converter.encode(value, current)
            if full and isinstance(converter, Record):
                for field in converter.fields:  # defaults of the class too: these are the reader's
                    part = converter.record.get(value, field.name)
                    if part is not ABSENT:
                        encoded[field.member] = field.converter.encode(part)
        except Misfit as misfit:
            raise misfit.as_error(path) from None
        return encoded

    def _at(self, path: str) -> Converter[Any]:
        """The converter of a place. Raises `StateTypeError` for one that the type has not."""
        converter, above = self._converter, ""
        for key in keys_of(path):
            found = converter.at(key)
            if found is None:
                near = get_close_matches(key, getattr(converter, "by_member", ()), 1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise StateTypeError(
                    f"{above}/{escape(key)}", f"a member of {converter.name}{hint}", repr(key)
                )
            converter, above = found, f"{above}/{escape(key)}"
        return converter

    def _check_op(self, base: Json, ops: list[Op], index: int) -> None:
        op, path = ops[index], ops[index]["path"]
        match op["op"]:
            case "test":
                return
            case "remove":
                self._check_removable(path)
            case "move" | "copy":
                if op["op"] == "move":
                    if parent(path) == parent(op["from"]) and self._is_list(parent(path)):
                        return  # another place in its list
                    self._check_removable(op["from"])
                self._check_value(path, value_at(apply_patch(base, ops[:index]), op["from"]))
            case "@txt":
                if not self._at(path).is_text:
                    raise StateTypeError(path, self._at(path).name, "a text")
            case name if name in _NUMBERS:
                self._check_value(path, op["value"])
            case _:
                self._check_value(path, op.get("value"))

    def _check_value(self, path: str, value: Json) -> None:
        if self._is_element(path) and path.endswith("/-"):
            path = path[:-1] + "0"
        try:
            self._at(path).decode(value)
        except Misfit as misfit:
            raise misfit.as_error(path) from None

    def _check_removable(self, path: str) -> None:
        above, key = self._at(parent(path)), unescape(last_key(path))
        if above.is_required(key) and key not in self._default:
            part = above.at(key)
            raise StateTypeError(path, "a value" if part is None else part.name, "nothing")

    def _is_list(self, path: str) -> bool:
        return "list" in self._at(path).kinds

    def _is_element(self, path: str) -> bool:
        return path != "" and self._is_list(parent(path))

    def _with_defaults(self, raw: Json, ops: list[Op]) -> list[Op]:
        """Write a default softly before the first edit below it."""
        if not self._default or not isinstance(raw, dict):
            return ops
        there, written = set(raw), []
        for op in ops:
            keys = keys_of(op["path"])
            if keys and keys[0] in self._default and keys[0] not in there:
                there.add(keys[0])
                if len(keys) > 1 or op["op"] not in ("add", "replace", "remove"):
                    written.append(_soft(f"/{escape(keys[0])}", self._default[keys[0]]))
                elif op["op"] == "remove":
                    continue  # it was not there
            written.append(op)
        return written


def _soft(path: str, value: Json) -> Op:
    if value == {} or value == []:
        return {"op": "add", "path": path, "value": value}
    return {"op": "replace", "path": path, "value": value, "soft": True}


def _starts_insertion(ops: list[Op], index: int) -> bool:
    """Whether it makes room for an empty element, which the next operation puts there."""
    op, after = ops[index], ops[index + 1] if index + 1 < len(ops) else None
    return (
        op["op"] == "add"
        and op.get("value") is None
        and after is not None
        and after["op"] == "replace"
        and after["path"] == op["path"]
    )
