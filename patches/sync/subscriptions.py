"""Which ids to be subscribed to: the subscribe filter, and what was asked of this connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

#: Maps the tracked ids to the ids to subscribe to. Nothing at all means all of them.
SubscribeFilter: TypeAlias = Callable[[list[str]], Iterable[str] | None]


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """What this connection was asked for, and what it granted. In order, without repeats."""

    asked: tuple[str, ...] = ()
    granted: frozenset[str] = field(default_factory=frozenset)


def wanted_ids(tracked: Iterable[str], subscribe_filter: SubscribeFilter | None) -> list[str]:
    """The ids that the tracked documents need."""
    ids = list(tracked)
    wanted = subscribe_filter(ids) if subscribe_filter is not None else None
    return list(dict.fromkeys(ids if wanted is None else wanted))


def missing(current: Subscriptions, wanted: Sequence[str]) -> list[str]:
    """The ids to subscribe to."""
    have = set(current.asked)
    return [doc_id for doc_id in wanted if doc_id not in have]


def needless(current: Subscriptions, wanted: Sequence[str]) -> list[str]:
    """The ids to unsubscribe from."""
    needed = set(wanted)
    return [doc_id for doc_id in current.asked if doc_id not in needed]


def asking(current: Subscriptions, ids: Sequence[str]) -> Subscriptions:
    """These ids are being asked for."""
    return Subscriptions(tuple(dict.fromkeys((*current.asked, *ids))), current.granted)


def granting(
    current: Subscriptions, asked_ids: Sequence[str], granted: Iterable[str]
) -> Subscriptions:
    """The answer to a subscription: what was asked for and not granted may be asked for again."""
    refused = set(asked_ids) - set(granted)
    kept = tuple(doc_id for doc_id in current.asked if doc_id not in refused)
    return Subscriptions(kept, (current.granted | set(granted)) & set(kept))


def dropping(current: Subscriptions, ids: Sequence[str]) -> Subscriptions:
    """These ids are not needed any more."""
    gone = set(ids)
    return Subscriptions(
        tuple(doc_id for doc_id in current.asked if doc_id not in gone), current.granted - gone
    )
