"""What a client is built from by default: where its documents are kept, and its algorithms."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from patches.algorithms.base import Algorithm
from patches.errors import InvalidRequestError
from patches.limits import Limits
from patches.options import DocOptions
from patches.runtime import Runtime
from patches.stores.backend import Backend


def open_backend(store: Any, runtime: Runtime) -> tuple[Backend, bool]:
    """The backend for a `store` argument, and whether it is ours to close.

    `None` keeps everything in memory, a path in an SQLite file; anything else is a backend already.
    """
    if store is None:
        from patches.stores.memory.backend import MemoryBackend

        return MemoryBackend(runtime=runtime), True
    if isinstance(store, (str, os.PathLike)):
        from patches.stores.sqlite.backend import SqliteBackend

        return SqliteBackend(store, runtime=runtime), True
    if not hasattr(store, "open_store"):
        raise InvalidRequestError(
            f"store= takes a path, or a backend with an `open_store` method, not "
            f"{type(store).__name__}"
        )
    backend: Backend = store
    return backend, False


def default_algorithms(
    *, options: DocOptions, limits: Limits, runtime: Runtime
) -> Iterable[Algorithm]:
    """The algorithms that every client has."""
    from patches.algorithms.lww import LWWAlgorithm
    from patches.algorithms.ot import OTAlgorithm

    return (
        OTAlgorithm(options=options, limits=limits, runtime=runtime),
        LWWAlgorithm(options=options, limits=limits, runtime=runtime),
    )
