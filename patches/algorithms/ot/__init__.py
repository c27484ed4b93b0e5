"""OT: changes that are transformed to follow each other, so that every edit keeps its meaning."""

from patches.algorithms.histories import version_after_install
from patches.algorithms.ot.algorithm import OTAlgorithm
from patches.algorithms.ot.apply import (
    SkippedChange,
    apply_changes,
    apply_changes_for_reconstruction,
    apply_pending_for_view,
    create_state_from_snapshot,
)
from patches.algorithms.ot.batching import break_changes_into_batches
from patches.algorithms.ot.committed import apply_committed_changes
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.ejection import PendingEjection, compute_pending_ejection
from patches.algorithms.ot.incoming import (
    TransformedIncoming,
    transform_incoming_changes,
    transform_incoming_changes_with_frame,
)
from patches.algorithms.ot.rebase import rebase_changes
from patches.algorithms.ot.splitting import OversizedOp, break_changes
from patches.algorithms.ot.store import (
    CONFLICT,
    Conflict,
    OTClientStore,
    PendingQueue,
    QueuePosition,
    StoredSnapshot,
)

__all__ = [
    "CONFLICT",
    "Conflict",
    "OTAlgorithm",
    "OTClientStore",
    "OTDoc",
    "OversizedOp",
    "PendingEjection",
    "PendingQueue",
    "QueuePosition",
    "SkippedChange",
    "StoredSnapshot",
    "TransformedIncoming",
    "apply_changes",
    "apply_changes_for_reconstruction",
    "apply_committed_changes",
    "apply_pending_for_view",
    "break_changes",
    "break_changes_into_batches",
    "compute_pending_ejection",
    "create_state_from_snapshot",
    "rebase_changes",
    "transform_incoming_changes",
    "transform_incoming_changes_with_frame",
    "version_after_install",
]
