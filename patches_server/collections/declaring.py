"""`DeclaresRules`: how an application says its rules to a server, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from patches.algorithms.collections.declaration import Collections
from patches_server.collections.rules import (
    AfterCommit,
    Authorize,
    Execute,
    Handler,
    Rules,
    anyone,
)

T = TypeVar("T")
A = TypeVar("A", bound=Authorize)
E = TypeVar("E", bound=Execute)
C = TypeVar("C", bound=AfterCommit)
H = TypeVar("H", bound=Handler)


class DeclaresRules:
    """The part of a server that takes the application's rules."""

    #: Lets everybody who may write to the document.
    ANYONE: Final = staticmethod(anyone)

    def __init__(self, declared: Collections) -> None:
        self.rules: Final = Rules(declared)

    def authorize(
        self, table: type | str, kind: str, rule: Authorize | None = None
    ) -> Callable[[A], A]:
        """Declare who may write, before the transaction; raising refuses. May be async.

        `authorize("tasks", "delete", server.ANYONE)` lets everybody who may write to the document.
        """
        if rule is not None:
            self.rules.add_authorize(table, kind, rule)

        def declare(given: A) -> A:
            self.rules.add_authorize(table, kind, given)
            return given

        return declare

    def execute(self, table: type | str, kind: str) -> Callable[[E], E]:
        """Declare what a write does, in the transaction, in place of the plain statement."""

        def declare(rule: E) -> E:
            self.rules.add_execute(table, kind, rule)
            return rule

        return declare

    def after_commit(self, table: type | str, kind: str) -> Callable[[C], C]:
        """Declare what is done after a client's write was committed, answered and broadcast."""

        def declare(rule: C) -> C:
            self.rules.after.setdefault(self.rules.place(table, kind), []).append(rule)
            return rule

        return declare

    def action(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Declare what an action does, in the transaction: `action(sql, ctx, *, ...)`."""

        def declare(run: Callable[..., T]) -> Callable[..., T]:
            self.rules.add_action(name, run)
            return run

        return declare

    def on(self, table: type | str, *actions: str, durable: str | None = None) -> Callable[[H], H]:
        """Declare a handler of what was committed to a table: `"create"`, `"update"`, `"delete"`.

        A durable one has a stored cursor under this name: after a restart it gets what it missed,
        as the latest state of each row, at least once.
        """

        def declare(handler: H) -> H:
            self.rules.add_listener(table, actions, durable, handler)
            return handler

        return declare
