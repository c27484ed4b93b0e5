"""`Actions`: the named functions that may change a document's rows. Pure.

An action is a plain function of `tx` and keyword arguments. It runs again whenever histories meet,
so it may use nothing else that varies: `tx` has the time, random numbers and ids that are the same
each time. Its wire name holds a version (`add_todo@1`); an old version stays registered while
actions of it may still arrive.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, TypeVar

from patches.errors import SchemaError
from patches.model.codec import json_size
from patches.model.json_values import Json, checked_copy
from patches.rows.annotations import Check, value_type
from patches.rows.schema import Schema

Function = TypeVar("Function", bound=Callable[..., Any])
#: Whose rows an action sees: its author's, or all.
ActionRights: TypeAlias = Literal["author", "all"]

MAX_ARGS_BYTES: Final = 65_536

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One registered action."""

    name: str
    version: int
    function: Callable[..., Any]
    rights: ActionRights
    share_args: bool
    parameters: Mapping[str, Check]
    needed: frozenset[str]
    result: Check

    @property
    def wire_name(self) -> str:
        """The name with the version: `add_todo@1`."""
        return f"{self.name}@{self.version}"

    def check_args(self, args: Mapping[str, Json]) -> dict[str, Json]:
        """A copy of the arguments. Raises `TypeError` unless the action takes them."""
        for name in args:
            if name not in self.parameters:
                raise TypeError(f"action {self.name!r} has no argument {name!r}")
        for name in sorted(self.needed - args.keys()):
            raise TypeError(f"action {self.name!r} needs the argument {name!r}")
        try:
            plain: dict[str, Json] = checked_copy(dict(args))
        except ValueError as error:
            raise TypeError(f"action {self.name!r}: the arguments are not JSON: {error}") from error
        for name, value in plain.items():
            if problem := self.parameters[name](value):
                raise TypeError(f"action {self.name!r}, argument {name!r}: {problem}")
        if (size := json_size(plain)) > MAX_ARGS_BYTES:
            raise TypeError(
                f"action {self.name!r}: the arguments have {size} bytes, at most {MAX_ARGS_BYTES}"
            )
        return plain

    def check_result(self, result: Json) -> None:
        """Raises `TypeError` unless the action may return this."""
        if problem := self.result(result):
            raise TypeError(f"action {self.name!r}, result: {problem}")


class Actions:
    """The actions of a kind of document, over the tables of its schema.

    `check_purity`: run every action twice and compare, for tests and development.
    """

    def __init__(self, schema: Schema, *, check_purity: bool = False) -> None:
        self.schema: Final = schema
        self.check_purity: Final = check_purity
        self._actions: dict[str, Action] = {}
        self._by_function: dict[Callable[..., Any], Action] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The wire names of all actions."""
        return tuple(self._actions)

    def define(
        self,
        name: str,
        *,
        version: int = 1,
        rights: ActionRights = "author",
        share_args: bool = False,
    ) -> Callable[[Function], Function]:
        """Register the decorated function. Raises `SchemaError`, naming what is wrong.

        `rights="all"`: on the server it sees and writes every row, not its author's alone.
        `share_args`: its name and arguments go to all who see any of its effect.
        """

        def register(function: Function) -> Function:
            action = _action_of(name, version, rights, share_args, function)
            if action.wire_name in self._actions:
                raise SchemaError(f"action {action.wire_name!r} is defined twice")
            self._actions[action.wire_name] = action
            self._by_function[function] = action
            return function

        return register

    def find(self, wire_name: object) -> Action | None:
        """The action of a wire name, if it is registered here."""
        return self._actions.get(wire_name) if isinstance(wire_name, str) else None

    def action_of(self, action: Callable[..., Any] | str) -> Action:
        """The action of a function or a wire name. Raises `TypeError` for others."""
        found = self.find(action) if isinstance(action, str) else self._by_function.get(action)
        if found is None:
            known = ", ".join(self._actions) or "none"
            raise TypeError(f"{action!r} is not an action of this document; there are {known}")
        return found


def _action_of(
    name: str,
    version: int,
    rights: ActionRights,
    share_args: bool,
    function: Callable[..., Any],
) -> Action:
    if not _NAME.match(name) or version < 1:
        raise SchemaError(
            f"action {name!r}, version {version}: expected a name and a version from 1"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise SchemaError(f"action {name!r} is a coroutine; an action is a plain function")
    parameters = list(inspect.signature(function).parameters.values())[1:]  # without `tx`
    try:
        hints = typing.get_type_hints(function)
        checks = {each.name: value_type(hints.get(each.name, Any)).check for each in parameters}
        result = _result_check(hints.get("return", Any))
    except (NameError, TypeError) as error:
        raise SchemaError(f"action {name!r}: {error}") from error
    for each in parameters:
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise SchemaError(f"action {name!r}: {each.name!r} cannot be given by its name")
    return Action(
        name=name,
        version=version,
        function=function,
        rights=rights,
        share_args=share_args,
        parameters=MappingProxyType(checks),
        needed=frozenset(each.name for each in parameters if each.default is each.empty),
        result=result,
    )


def _result_check(annotation: Any) -> Check:
    if annotation is type(None):
        return lambda value: None if value is None else f"expected None, got {value!r}"
    return value_type(annotation).check
