"""Actions as changes: what of them is on the wire and in the stores. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

from patches.algorithms.replay.clock import Clock, Key, parse_clock
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json, Op

ACTION: Final = "action"
SYNC: Final = "sync"
#: The notification that the audiences of somebody have changed.
AUDIENCES_CHANGED: Final = "audiencesChanged"
#: The audience of the row that an operation of a committed change writes.
OP_AUDIENCE: Final = "aud"
#: Of a committed change: how many changes before it belong with it. Of an action that is sent: how
#: many actions from it on are to be committed together.
GROUP: Final = "group"
#: Of the last action of a group that is sent: the correction that follows it.
CORRECTION: Final = "sync"
#: Of an action whose name and arguments all may know who see any of its effect.
SHARED: Final = "share"
#: On every change of a document whose actions are run by those who commit them.
RUNNER: Final = "runner"
CLIENT: Final = "client"
#: On those: the audiences of the author, as far as the receiver belongs to them, too.
RIGHTS: Final = "rights"


class ActionOps(list[Op]):
    """The operations of an action that was run here, on their way to the store.

    True even if the action wrote nothing: it is a change like any other. With `call` and without
    `change` it is an action still to be run, where a list of operations is expected.
    """

    def __init__(
        self,
        ops: Iterable[Op] = (),
        *,
        change: Change | None = None,
        call: tuple[str, dict[str, Json]] | None = None,
    ) -> None:
        super().__init__(ops)
        self.change = change
        self.call = call

    @classmethod
    def of(cls, action: str, **args: Json) -> Self:
        """An action to be run, by its wire name."""
        return cls(call=(action, args))

    def __bool__(self) -> bool:
        return self.change is not None or self.call is not None

    def clear(self) -> None:
        """Taken back, or confirmed: there is nothing to store."""
        super().clear()
        self.change = self.call = None


def clock_of(change: Change | ChangeInput) -> Clock | None:
    """The clock of an action, `None` if it has none."""
    return parse_clock(change.metadata.get("clock"))


def key_of(change: Change) -> Key:
    """What a pending action is ordered by."""
    clock = clock_of(change)
    return (0, 0, "", change.id) if clock is None else clock.key(change.id)


def in_order(changes: Iterable[Change]) -> list[Change]:
    """Actions in the order of their clocks."""
    return sorted(changes, key=key_of)


def call_of(change: Change | ChangeInput) -> tuple[str, dict[str, Json]] | None:
    """The wire name and the arguments of an action, `None` if they are hidden or malformed."""
    match change.metadata.get("action"):
        case {"name": str(name), "args": dict(args)}:
            return name, args
    return None


def action_metadata(name: str, args: Mapping[str, Json], clock: Clock) -> dict[str, Any]:
    """What the change of an action has beside its operations."""
    return {
        "kind": ACTION,
        "action": {"name": name, "args": dict(args)},
        "clock": clock.to_wire(),
    }


def plain_ops(ops: Iterable[Op]) -> list[Op]:
    """Operations without the audiences of their rows."""
    return [
        {key: value for key, value in op.items() if key != OP_AUDIENCE} if OP_AUDIENCE in op else op
        for op in ops
    ]


def units_of(changes: Sequence[Change]) -> list[list[Change]]:
    """Committed changes, those that were run together in one list, with what it corrects.

    Nobody may stop inside of a unit: a rule may not hold there.
    """
    units: list[list[Change]] = []
    end = len(changes)
    while end > 0:
        start = max(0, end - 1 - group_of(changes[end - 1]))
        units.append(list(changes[start:end]))
        end = start
    return units[::-1]


def group_of(change: Change) -> int:
    """How many changes before a committed one belong with it."""
    usual = int(change.metadata.get("kind") == SYNC)
    group = change.metadata.get(GROUP, usual)
    is_count = isinstance(group, int) and not isinstance(group, bool) and group >= 0
    return group if is_count else usual


def is_client_run(change: Change) -> bool:
    """Whether who committed this change ran its action."""
    return change.metadata.get(RUNNER) == CLIENT
