"""`Diff`: what differs between two states, for people, for pages and for other libraries."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from patches.documents.draft import ops_to_reach
from patches.history.plain import jsonpatch_between
from patches.json_patch import pointer
from patches.model import codec
from patches.model.json_values import Json, Op, json_equal
from patches.text import Delta

if TYPE_CHECKING:
    import jsonpatch

Kind: TypeAlias = Literal["added", "removed", "changed", "moved", "text"]
#: Longer lists are compared place by place.
_MAX_ELEMENTS: Final = 5_000
_COLORS: Final = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDiff:
    """One place that differs. `path` is that of the later state, of the earlier if it is gone.

    `delta` is the change of a rich text. A `moved` list element was at the path in `before`.
    """

    path: str
    kind: Kind
    before: Any = None
    after: Any = None
    delta: Delta | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between `before` and `after`. `is_coarse`: long lists were compared by place."""

    before: Any
    after: Any
    fields: Sequence[FieldDiff]
    is_coarse: bool = False
    _ops: list[list[Op]] = field(default_factory=list, repr=False, compare=False)

    @property
    def ops(self) -> list[Op]:
        """Operations of this toolkit that make `after` of `before`; texts by their changes."""
        if not self._ops:
            self._ops.append(ops_to_reach(self.before, self.after))
        return self._ops[0]

    def to_jsonpatch(self) -> jsonpatch.JsonPatch:
        """The same as RFC 6902 has it: `diff.to_jsonpatch().apply(before) == after`."""
        return jsonpatch_between(self.before, self.after)

    def to_text(self, *, context: int = 3, color: bool = False) -> str:
        """A unified diff of the states as indented JSON; empty if they are equal."""
        import difflib  # on first use: it takes long to load

        lines = list(
            difflib.unified_diff(
                _lines(self.before), _lines(self.after), "before", "after", "", "", context, ""
            )
        )
        if color:
            lines = [
                f"{_COLORS[line[0]]}{line}\x1b[0m" if line[:1] in _COLORS else line
                for line in lines
            ]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A list of what differs; everything that comes from the document is escaped."""
        items = "".join(f"<li>{_item(each)}</li>" for each in self.fields)
        return f'<ul class="diff">{items}</ul>'


def diff_states(before: Json, after: Json, *, key: str | None = None) -> Diff:
    """What differs. Elements of lists are the same if they have the same member `key`; without it,
    or where one has none, by their longest common run."""
    differ = _Differ(key)
    differ.value(before, after, "")
    return Diff(before, after, tuple(differ.fields), differ.is_coarse)


class _Differ:
    def __init__(self, key: str | None) -> None:
        self.fields: list[FieldDiff] = []
        self.is_coarse = False
        self._key = key

    def value(self, before: Json, after: Json, path: str) -> None:
        if before is after or json_equal(before, after):
            return
        if isinstance(before, dict) and isinstance(after, dict):
            if _is_text(before) and _is_text(after):
                delta = Delta(before["ops"]).diff(after["ops"])
                self._add(path, "text", before, after, delta)
                return
            self._members(before, after, path)
        elif isinstance(before, list) and isinstance(after, list):
            self._elements(before, after, path)
        else:
            self._add(path, "changed", before, after)

    def _members(self, before: dict[str, Json], after: dict[str, Json], path: str) -> None:
        for name, value in before.items():
            at = f"{path}/{pointer.escape(name)}"
            if name in after:
                self.value(value, after[name], at)
            else:
                self._add(at, "removed", value)
        for name, value in after.items():
            if name not in before:
                self._add(f"{path}/{pointer.escape(name)}", "added", None, value)

    def _elements(self, before: list[Json], after: list[Json], path: str) -> None:
        if max(len(before), len(after)) > _MAX_ELEMENTS:
            self.is_coarse = True
            self._places(before, after, path, 0, 0)
            return
        names = self._names(before), self._names(after)
        if names[0] is not None and names[1] is not None:
            self._named(before, after, names[0], names[1], path)
            return
        first, second = [_text_of(each) for each in before], [_text_of(each) for each in after]
        import difflib

        matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
        for tag, low, high, start, end in matcher.get_opcodes():
            if tag != "equal":
                self._places(before[low:high], after[start:end], path, low, start)

    def _named(
        self, before: list[Json], after: list[Json], old: list[str], new: list[str], path: str
    ) -> None:
        """Elements that have names: the same name is the same element, wherever it is."""
        places = {name: index for index, name in enumerate(old)}
        wanted = set(new)
        for index, name in enumerate(old):
            if name not in wanted:
                self._add(f"{path}/{index}", "removed", before[index])
        kept = [name for name in new if name in places]
        still = set(_longest_rise([places[name] for name in kept]))
        for index, name in enumerate(new):
            at = f"{path}/{index}"
            if name not in places:
                self._add(at, "added", None, after[index])
                continue
            place = places[name]
            if place not in still:
                self._add(at, "moved", f"{path}/{place}", at)
            self.value(before[place], after[index], at)

    def _places(
        self, before: list[Json], after: list[Json], path: str, low: int, start: int
    ) -> None:
        for index in range(max(len(before), len(after))):
            if index >= len(before):
                self._add(f"{path}/{start + index}", "added", None, after[index])
            elif index >= len(after):
                self._add(f"{path}/{low + index}", "removed", before[index])
            else:
                self.value(before[index], after[index], f"{path}/{start + index}")

    def _names(self, elements: list[Json]) -> list[str] | None:
        """The names of elements, if all have one and no two the same."""
        if self._key is None:
            return None
        names = [
            _text_of(each[self._key]) if isinstance(each, dict) and self._key in each else None
            for each in elements
        ]
        known = [name for name in names if name is not None]
        return known if len(set(known)) == len(elements) else None

    def _add(
        self, path: str, kind: Kind, before: Any, after: Any = None, delta: Delta | None = None
    ) -> None:
        self.fields.append(FieldDiff(path=path, kind=kind, before=before, after=after, delta=delta))


def _longest_rise(numbers: Sequence[int]) -> list[int]:
    """The longest rising subsequence: what of an order has stayed."""
    ends: list[int] = []  # the index of the smallest end of a rise of each length
    before: list[int] = []
    for index, number in enumerate(numbers):
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high) // 2
            if numbers[ends[middle]] < number:
                low = middle + 1
            else:
                high = middle
        before.append(ends[low - 1] if low else -1)
        ends[low : low + 1] = [index]
    rise: list[int] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        rise.append(numbers[at])
        at = before[at]
    return rise[::-1]


def _is_text(value: dict[str, Json]) -> bool:
    ops = value.get("ops")
    return (
        len(value) == 1
        and isinstance(ops, list)
        and bool(ops)
        and all(isinstance(op, dict) and isinstance(op.get("insert"), (str, dict)) for op in ops)
    )


def _text_of(value: Json) -> str:
    return codec.encode(value).decode("utf-8", "surrogatepass")


def _lines(state: Json) -> list[str]:
    return json.dumps(state, indent=2, ensure_ascii=False, sort_keys=True).split("\n")


def _item(each: FieldDiff) -> str:
    path = f"<code>{html.escape(each.path or '/')}</code>"
    if each.kind == "moved":
        return f"{path} moved from <code>{html.escape(str(each.before))}</code>"
    if each.delta is not None:
        return f"{path} {_pieces(each.before, each.delta)}"
    old = f"<del>{html.escape(_text_of(each.before))}</del>"
    new = f"<ins>{html.escape(_text_of(each.after))}</ins>"
    shown = {"added": new, "removed": old}.get(each.kind, f"{old} {new}")
    return f"{path} {each.kind}: {shown}"


def _pieces(before: Any, delta: Delta) -> str:
    """A text with what was deleted and inserted."""
    units = Delta(before["ops"]).text().encode("utf-16-le", "surrogatepass")
    at, shown = 0, []
    for op in delta.ops:
        insert, length = op.get("insert"), op.get("retain") or op.get("delete") or 0
        if insert is not None:
            text = insert if isinstance(insert, str) else "\ufffc"
            shown.append(f"<ins>{html.escape(text)}</ins>")
            continue
        piece = units[2 * at : 2 * (at + length)].decode("utf-16-le", "replace")
        at += length
        tag = ("<del>", "</del>") if "delete" in op else ("", "")
        shown.append(f"{tag[0]}{html.escape(piece)}{tag[1]}")
    return "".join(shown)
