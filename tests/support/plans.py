"""One shape as the classes of four libraries, at the top of a module so that hints resolve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import msgspec
import pydantic


class ItemDict(TypedDict):
    id: str
    done: bool


class PlanDict(TypedDict):
    title: str
    items: list[ItemDict]
    views: int
    due: NotRequired[str]


@dataclass
class ItemData:
    id: str
    done: bool = False


@dataclass
class PlanData:
    title: str = ""
    items: list[ItemData] = field(default_factory=list)
    views: int = 0
    due: str | None = None


class ItemStruct(msgspec.Struct):
    id: str
    done: bool = False


class PlanStruct(msgspec.Struct):
    title: str = ""
    items: list[ItemStruct] = msgspec.field(default_factory=list)
    views: int = 0
    due: str | None = None


class ItemModel(pydantic.BaseModel):
    id: str
    done: bool = False


class PlanModel(pydantic.BaseModel):
    title: str = ""
    items: list[ItemModel] = []
    views: int = 0
    due: str | None = None


EMPTY: PlanDict = {"title": "", "items": [], "views": 0}
#: Each with what makes an item.
CLASSES: dict[str, tuple[Any, Any]] = {
    "dataclass": (PlanData, ItemData),
    "struct": (PlanStruct, ItemStruct),
    "model": (PlanModel, ItemModel),
}
