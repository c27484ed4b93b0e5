"""Limits: how much of everything is allowed, in one frozen value.

The rules: `docs/internals/reliability.md` 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from operator import itemgetter

from patches.errors import InvalidRequestError

KIB = 1024
MIB = 1024 * KIB

#: A rate or a time of nothing lets nothing through, ever.
_LEAST = 1e-6
_MAY_BE_ZERO = frozenset({"yield_every_ms"})
#: What surrounds the changes of a commit in its frame: the method, the document's id, options.
_CALL_BYTES = 4 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All limits, with their defaults. `None` switches a limit off, except the starred ones.

    Sizes are bytes of UTF-8 JSON, durations seconds unless the name says otherwise. Raises
    `InvalidRequestError` for an invalid value.
    """

    # connections
    max_frame_bytes: int = 16 * MIB  # *
    max_commit_bytes: int | None = 8 * MIB
    max_change_bytes: int | None = 4 * MIB
    max_response_buffer_bytes: int | None = 8 * MIB
    max_response_buffer_msgs: int | None = 10_000
    send_timeout_s: float | None = 30.0
    max_inflight_requests: int | None = 64
    requests_per_s: float | None = 2_000.0
    requests_burst: int = 10_000
    commit_bytes_per_s: float | None = 4.0 * MIB
    commit_bytes_burst: int = 32 * MIB
    max_subscriptions: int | None = 10_000
    max_ids_per_call: int | None = 10_000
    handshake_timeout_s: float | None = 10.0
    heartbeat_s: float | None = 25.0
    max_connections: int | None = 10_000
    max_connections_per_principal: int | None = 50
    max_connections_per_ip: int | None = 200
    connects_per_min_per_ip: int | None = 120
    compress: bool = False
    max_parsed_bytes: int | None = 256 * MIB

    # input
    max_depth: int = 128  # *
    max_path_segments: int = 64  # *
    max_value_depth: int = 60  # *
    max_path_bytes: int | None = 4_096
    max_ops_per_change: int | None = 20_000
    max_changes_per_commit: int | None = 20_000
    max_doc_id_bytes: int = 512  # *
    max_change_id_bytes: int = 128  # *
    max_metadata_bytes: int | None = 16 * KIB
    max_presence_bytes: int | None = 16 * KIB
    presence_per_s: float | None = 20.0
    presence_bytes_per_s: float | None = 1.0 * MIB
    max_text_op_len: int | None = 16 * MIB

    # documents and work
    max_doc_bytes: int | None = 64 * MIB
    max_doc_depth: int = 128  # *
    max_transform_steps: int | None = 5_000_000
    max_catchup_changes: int | None = 50_000
    max_concurrent_snapshots: int | None = None
    max_pending_per_doc: int | None = 100_000
    max_pending_bytes_per_doc: int | None = 64 * MIB
    store_timeout_s: float | None = 10.0
    hook_timeout_s: float | None = 5.0
    yield_every_ms: int | None = 5

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "compress":
                if not isinstance(value, bool):
                    raise InvalidRequestError(f"limits: compress must be a bool, not {value!r}")
                continue
            if value is None and "None" in str(each.type):
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            least = 0 if each.name in _MAY_BE_ZERO else _LEAST
            if not is_number or not least <= value < math.inf:
                raise InvalidRequestError(f"limits: {each.name} cannot be {value!r}")
            if "float" not in str(each.type) and not isinstance(value, int):
                raise InvalidRequestError(f"limits: {each.name} must be an int, not {value!r}")

    @property
    def largest_change_bytes(self) -> int:
        """Bytes of the largest change that fits into a change, a commit and a frame."""
        return self.largest_change[0]

    @property
    def largest_change(self) -> tuple[int, str]:
        """`largest_change_bytes`, and the field that decides it."""
        frame = max(1, self.max_frame_bytes - _CALL_BYTES)
        sizes = (
            (self.max_change_bytes, "max_change_bytes"),
            (self.max_commit_bytes, "max_commit_bytes"),
            (frame, "max_frame_bytes"),
        )
        return min(((size, name) for size, name in sizes if size is not None), key=itemgetter(0))
