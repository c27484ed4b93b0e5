"""From a change that a client sent to a `Plan`: checked, and authorized by the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from patches.errors import ChangeRefusedError
from patches.model.change import Change, ChangeInput
from patches.runtime import Millis
from patches_server.collections.calls import Caller
from patches_server.collections.engines.engine import Transaction
from patches_server.collections.execute import TIME_LIMIT_S, Plan, key_of, planned
from patches_server.collections.mutations import parse_action, parse_change
from patches_server.collections.rules import Rules, anyone, require, validate

T = TypeVar("T")


class Reads(Protocol):
    """Runs a function that writes nothing on a document."""

    def __call__(self, doc_id: str, work: Callable[[Transaction], T]) -> Awaitable[T]: ...


async def plan_change(
    rules_of: Rules,
    caller: Caller,
    change: Change | ChangeInput,
    read: Reads,
    now: Millis,
) -> Plan:
    """Check a change, and ask whether its sender may make it."""
    action = change.metadata.get("action")
    if action is not None:
        called = parse_action(action)
        action_rule = rules_of.actions.get(called.name)
        if action_rule is None:
            raise ChangeRefusedError(
                change.id,
                f"there is no action {called.name[:60]!r} here",
                code=403,
                final=True,
                reason="DENIED",
            )
        action_rule.check(called)
        return Plan(change_id=change.id, action=called)
    expected, mutations = parse_change(rules_of.declared, change.ops)
    rules = [rules_of.rule_of(each.table, each.type) for each in mutations]
    checked = [
        (mutation, rule)
        for mutation, rule in zip(mutations, rules, strict=True)
        if rule is not None and rule is not anyone
    ]
    if not checked:
        return Plan(change_id=change.id, expected=expected, mutations=mutations)
    places = [(each.table, key_of(each, caller)) for each in mutations]

    def load(tx: Transaction) -> tuple[bool, dict[tuple[str, str], Any]]:
        is_known = bool(tx.commits([change.id]))
        return is_known, {(table.name, key): tx.get(table, key) for table, key in places}

    is_known, seen = await read(caller.doc_id, load)
    if is_known:  # it is answered, not carried out again
        return Plan(change_id=change.id)
    rows = dict(seen)
    for mutation, rule in zip(mutations, rules, strict=True):
        place = (mutation.table.name, key_of(mutation, caller))
        write = planned(mutation, rows[place], caller, now)
        if write.type == "delete" and write.old is None:
            continue
        validate(mutation.table, write.type, write.row, caller)
        if rule is not None:
            await require(rule, caller, write, TIME_LIMIT_S)
        rows[place] = None if write.type == "delete" else write.row
    return Plan(change_id=change.id, expected=expected, mutations=mutations, seen=seen)
