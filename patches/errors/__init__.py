"""Every error of the toolkit, clients' and servers' and stores', in one tree.

    PatchesError
    ├── PatchError (ValueError)          operations cannot be applied, transformed or inverted
    │   ├── OpsRefusedError              operations that are malformed, or beyond a limit
    │   ├── InvalidValueError            a value is not JSON, or some replica could not hold it
    │   ├── UnsupportedOperationError    an operation that the algorithm does not support
    │   ├── NotARowOperationError        an operation on tables that is no change of rows
    │   ├── InvalidRowError              a row or a value that its table does not take
    │   └── InvalidError                 a rule of the application refuses a row
    ├── InvalidConditionError (ValueError)   a condition over columns that cannot be tried
    ├── ActionsOnlyError                 a document of actions is edited in another way
    ├── ActionRefusedError               an action goes beyond a limit
    │   └── ActionTooSlowError           it was not done within its time
    ├── ImpureActionError                an action does something else when it runs again
    ├── DuplicateIdentityError           an action inserts two rows of one identity
    ├── WritesRefusedError               SQL that reads or writes what it may not
    ├── AudienceDeniedError              an action writes a row that its author may not see
    ├── ConstraintError                  a write breaks a constraint of the database
    ├── SchemaError                      a declaration of tables that is wrong
    ├── SchemaTooOldError                a table or column of the server's that is not declared here
    ├── InvalidJsonError (ValueError)    bytes that are not JSON
    ├── ApplyChangesError                a change does not apply to the state it was made for
    ├── MissingChangesError              server changes do not follow on from the local revision
    ├── HistoryChangedError              the server has another history of a document than before
    ├── OutdatedAnswerError              an answer is about a copy that is not here any more
    ├── AlgorithmMismatchError           a document is used with another algorithm than its own
    ├── DocumentClosedError              an edit of a document that was closed
    ├── StateReadOnlyError (TypeError)   a write to `doc.state`, noticed in debug mode
    ├── StateTypeError (TypeError)       a value that does not fit the type of its document
    ├── ShapeTooNewError                 a document was migrated by a newer program
    ├── AnchorExpiredError               a shared anchor is too old to be followed
    ├── StreamTargetGoneError            others deleted the text that is being streamed
    ├── WrongThreadError                 a document is used from another thread than its own
    ├── WrongLoopError                   a client is used from another event loop than its own
    ├── DocNotTrackedError               the call needs a tracked document
    ├── DeletionPendingError             a document whose deletion has not reached the server
    ├── QueueFullError                   too much unsent work on one document
    ├── UnsplittableChangeError          an operation too large to send, and not divisible
    ├── UnstoredPendingError             unsent work that the store has lost
    ├── CommittedPoisonSkippedError      a committed change that cannot be applied was skipped
    ├── PendingChangeError               a pending change cannot be ejected or retried
    ├── RejectedError                    the server refused a write of a collection
    ├── WriteDiscardedError              a write of a collection that was taken back
    ├── StorageError                     a store failed
    │   ├── StorageTimeoutError, StorageFullError, CorruptDataError, WrongFileError
    ├── RevConflictError                 a store write rested on a revision that has moved
    ├── DuplicateChangeIdsError          a store write holds ids that are committed already
    ├── ConvergenceError                 a read-decide-write loop lost too often to another writer
    ├── ReadOnlyError                    an edit of a document that may only be read
    ├── ImportFileError                  an export that was cut or altered
    ├── HistoryUnavailableError           the server has no history to show
    ├── BranchError, VersionError        a branch or version call that cannot be carried out
    │   └── MergePartialProgressError, MergeFrameAlignmentError, MergeContentDuplicationError
    ├── NetworkError                     no answer came: a dead socket, a time-out
    │   ├── FrameTooLargeError           the peer closed the socket over a frame of ours
    │   └── SignInRefusedError           401 instead of a websocket; also an UnauthorizedError
    ├── JSONRPCError                     the peer answered with an error without a status
    │   └── JSONRPCParseError            the peer sent something that is not JSON
    └── StatusError                      an answer with a status code
        ├── 400 InvalidRequestError, 400/413 ChangeRefusedError, 401 UnauthorizedError,
        └── 403 ForbiddenError (DeniedError), 404 NotFoundError, 409 StaleSubmissionError,
            409 OtherHistoryError, 410 DocDeletedError, 429 TooManyRequestsError,
            503 UnavailableError

A class carries its wire `code` and `data`, where it has them; a `PatchesError` without a code goes
over the wire as -32000 with its message and no data (`docs/decisions.md`).

A module here has errors of one kind and no code beside them.
"""

from patches.errors.answers import (
    TERMINAL_CODES,
    ChangeRefusedError,
    DeniedError,
    DocDeletedError,
    ForbiddenError,
    FrameTooLargeError,
    InvalidRequestError,
    JSONRPCError,
    JSONRPCParseError,
    NetworkError,
    NotFoundError,
    OtherHistoryError,
    SignInRefusedError,
    StaleSubmissionError,
    StatusError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from patches.errors.base import (
    ErrorContext,
    PatchesError,
)
from patches.errors.documents import (
    ALGORITHM_REASON,
    AlgorithmMismatchError,
    AnchorExpiredError,
    ApplyChangesError,
    CommittedPoisonSkippedError,
    DeletionPendingError,
    DocNotTrackedError,
    DocumentClosedError,
    HistoryChangedError,
    InvalidJsonError,
    InvalidValueError,
    MissingChangesError,
    OpsRefusedError,
    OutdatedAnswerError,
    PatchError,
    PendingChangeError,
    QueueFullError,
    ReadOnlyError,
    ShapeTooNewError,
    StateReadOnlyError,
    StateTypeError,
    StreamTargetGoneError,
    UnsplittableChangeError,
    UnstoredPendingError,
    UnsupportedOperationError,
    WrongLoopError,
    WrongThreadError,
)
from patches.errors.rows import (
    ActionRefusedError,
    ActionsOnlyError,
    ActionTooSlowError,
    AudienceDeniedError,
    ConstraintError,
    DuplicateIdentityError,
    ImpureActionError,
    InvalidConditionError,
    InvalidError,
    InvalidRowError,
    NotARowOperationError,
    RejectedError,
    SchemaError,
    SchemaTooOldError,
    WriteDiscardedError,
    WritesRefusedError,
)
from patches.errors.storage import (
    ConvergenceError,
    CorruptDataError,
    DamagedPart,
    DuplicateChangeIdsError,
    ImportFileError,
    RevConflictError,
    StorageError,
    StorageFullError,
    StorageTimeoutError,
    WrongFileError,
)
from patches.errors.versions import (
    BranchError,
    HistoryUnavailableError,
    MergeContentDuplicationError,
    MergeFrameAlignmentError,
    MergePartialProgressError,
    VersionError,
)

__all__ = [
    "ALGORITHM_REASON",
    "TERMINAL_CODES",
    "ActionRefusedError",
    "ActionTooSlowError",
    "ActionsOnlyError",
    "AlgorithmMismatchError",
    "AnchorExpiredError",
    "ApplyChangesError",
    "AudienceDeniedError",
    "BranchError",
    "ChangeRefusedError",
    "CommittedPoisonSkippedError",
    "ConstraintError",
    "ConvergenceError",
    "CorruptDataError",
    "DamagedPart",
    "DeletionPendingError",
    "DeniedError",
    "DocDeletedError",
    "DocNotTrackedError",
    "DocumentClosedError",
    "DuplicateChangeIdsError",
    "DuplicateIdentityError",
    "ErrorContext",
    "ForbiddenError",
    "FrameTooLargeError",
    "HistoryChangedError",
    "HistoryUnavailableError",
    "ImportFileError",
    "ImpureActionError",
    "InvalidConditionError",
    "InvalidError",
    "InvalidJsonError",
    "InvalidRequestError",
    "InvalidRowError",
    "InvalidValueError",
    "JSONRPCError",
    "JSONRPCParseError",
    "MergeContentDuplicationError",
    "MergeFrameAlignmentError",
    "MergePartialProgressError",
    "MissingChangesError",
    "NetworkError",
    "NotARowOperationError",
    "NotFoundError",
    "OpsRefusedError",
    "OtherHistoryError",
    "OutdatedAnswerError",
    "PatchError",
    "PatchesError",
    "PendingChangeError",
    "QueueFullError",
    "ReadOnlyError",
    "RejectedError",
    "RevConflictError",
    "SchemaError",
    "SchemaTooOldError",
    "ShapeTooNewError",
    "SignInRefusedError",
    "StaleSubmissionError",
    "StateReadOnlyError",
    "StateTypeError",
    "StatusError",
    "StorageError",
    "StorageFullError",
    "StorageTimeoutError",
    "StreamTargetGoneError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "UnsplittableChangeError",
    "UnstoredPendingError",
    "UnsupportedOperationError",
    "VersionError",
    "WriteDiscardedError",
    "WritesRefusedError",
    "WrongFileError",
    "WrongLoopError",
    "WrongThreadError",
]
