"""Which types documents can have."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

from patches.errors import InvalidRequestError
from patches.typed import Converter, Misfit, converter_of, register_converter

N = TypeVar("N")


@dataclass
class Tree:
    name: str
    inner: list[Tree] = field(default_factory=list)


@dataclass
class Page(Generic[N]):
    items: list[N]
    next: str | None = None


@dataclass
class Pages:
    numbers: Page[int]


@dataclass
class Circle:
    radius: float
    kind: Literal["circle"] = "circle"


@dataclass
class Box:
    side: float
    kind: Literal["box"] = "box"


@dataclass
class Drawing:
    shapes: list[Circle | Box]


class StructCircle(msgspec.Struct, tag="circle"):
    radius: float


class StructBox(msgspec.Struct, tag="box", rename="camel"):
    long_side: float


class StructDrawing(msgspec.Struct):
    shapes: list[StructCircle | StructBox]


class Limited(msgspec.Struct):
    rating: Annotated[int, msgspec.Meta(ge=1, le=5)]


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    rating: int = pydantic.Field(ge=1, le=5, alias="starRating")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class TreeDict(TypedDict):
    name: str
    inner: list[TreeDict]


CASES: list[tuple[Any, Any, Any]] = [
    (Tree, {"name": "a", "inner": [{"name": "b"}]}, Tree("a", [Tree("b")])),
    (Page[int], {"items": [1]}, Page([1])),
    (Pages, {"numbers": {"items": [1], "next": "x"}}, Pages(Page([1], "x"))),
    (
        Drawing,
        {"shapes": [{"radius": 1, "kind": "circle"}, {"side": 2, "kind": "box"}]},
        Drawing([Circle(1), Box(2)]),
    ),
    (
        StructDrawing,
        {"shapes": [{"type": "circle", "radius": 1}, {"type": "box", "longSide": 2}]},
        StructDrawing([StructCircle(1), StructBox(2)]),
    ),
    (Limited, {"rating": 5}, Limited(5)),
    (Model, {"starRating": 5}, Model(starRating=5)),
    (dict[str, Colour], {"a": "red"}, {"a": Colour.RED}),
    (int | str | None, "a", "a"),
    (list[int] | dict[str, int], {"a": 1}, {"a": 1}),
    (Literal["a", 1], 1, 1),
    (TreeDict, {"name": "a", "inner": []}, {"name": "a", "inner": []}),
]


@pytest.mark.parametrize(("type_", "json", "value"), CASES, ids=lambda value: str(value)[:30])
def test_values_are_read_and_written(type_: Any, json: Any, value: Any) -> None:
    converter = converter_of(type_)
    assert converter.decode(json) == value
    encoded = converter.encode(value, json)
    assert converter.decode(encoded) == value
    assert encoded == json or type_ in (Drawing, Tree, Pages)


MISFITS: list[tuple[Any, Any, str]] = [
    (Tree, {"name": "a", "inner": [{"name": 3}]}, "/inner/0/name"),
    (Tree, {"inner": []}, "/name"),
    (Page[int], {"items": ["a"]}, "/items/0"),
    (Drawing, {"shapes": [{"radius": 1, "kind": "star"}]}, "/shapes/0"),
    (Limited, {"rating": 6}, "/rating"),
    (Model, {"starRating": 6}, "/starRating"),
    (dict[str, Colour], {"a": "green"}, "/a"),
    (Literal[1], True, ""),
    (int, 1.5, ""),
    (int, True, ""),
    (TreeDict, {"name": "a", "inner": [{}]}, "/inner/0/name"),
]


@pytest.mark.parametrize(("type_", "json", "path"), MISFITS, ids=lambda value: str(value)[:30])
def test_what_does_not_fit_is_named_by_its_path(type_: Any, json: Any, path: str) -> None:
    with pytest.raises(Misfit) as caught:
        converter_of(type_).decode(json)
    assert caught.value.as_error().path == path


@dataclass
class OneOfTwo:
    shape: Tree | Pages


@dataclass
class NotKnown:
    value: complex


@dataclass
class ByNumber:
    names: dict[int, str]


UNSUPPORTED = [
    (OneOfTwo, r"OneOfTwo\.shape: .* both written as object"),
    (NotKnown, r"NotKnown\.value: no converter for <class 'complex'>"),
    (ByNumber, r"ByNumber\.names: the keys of a JSON object are str"),
    (bytes | str, "both written as string"),
]


@pytest.mark.parametrize(("type_", "message"), UNSUPPORTED, ids=lambda value: str(value)[:30])
def test_a_type_that_cannot_be_converted_is_refused_by_its_field(type_: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        converter_of(type_)


class ComplexConverter(Converter[complex]):
    name = "complex"

    def decode(self, value: Any, before: Any = None) -> complex:
        if not isinstance(value, list):
            raise Misfit("complex", "something else")
        return complex(*value)

    def encode(self, value: object, current: Any = None) -> Any:
        assert isinstance(value, complex)
        return [value.real, value.imag]


def test_converters_of_other_classes_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patches.typed.build._REGISTERED", [])
    register_converter(lambda cls: cls is complex, lambda cls: ComplexConverter())
    assert converter_of(NotKnown).decode({"value": [1, 2]}) == NotKnown(1 + 2j)


def test_a_value_of_another_option_is_not_taken_for_the_one_before() -> None:
    converter = converter_of(Drawing)
    items: list[Any] = [{"radius": 1, "kind": "circle"}]
    before = {"shapes": items}
    old = converter.decode(before)
    after = {"shapes": [{"side": 1, "kind": "box"}, items[0]]}
    new = converter.decode(after, (before, old))
    assert new == Drawing([Box(1), Circle(1)])
    assert new.shapes[1] is old.shapes[0]
