"""`open_bus`: the bus that an option names."""

from __future__ import annotations

from collections.abc import Callable

from patches.errors import InvalidRequestError
from patches_server.bus.bus import HintBus
from patches_server.bus.none import NoBus


def open_bus(choice: str | None, own: Callable[[], HintBus] | None) -> HintBus:
    """`none`, `postgres` or `redis://host`. `own` makes the bus of the store, which is the default.

    Raises `InvalidRequestError` for anything else, and without the extra that a bus needs.
    """
    if choice is None:
        return NoBus() if own is None else own()
    if choice == "none":
        return NoBus()
    if choice == "postgres":
        if own is None:
            raise InvalidRequestError("the bus postgres needs a PostgreSQL store")
        return own()
    if choice.startswith(("redis://", "rediss://", "unix://")):
        try:
            from patches_server.bus.redis import RedisBus  # needs an extra
        except ModuleNotFoundError as exc:
            raise InvalidRequestError(
                "a Redis bus needs the extra redis: pip install 'patches-sync[redis]'"
            ) from exc
        return RedisBus(choice)
    raise InvalidRequestError(f"a bus is none, postgres or redis://host:port, not {choice!r:.60}")
