"""The deciding of a commit, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import (
    ChangeRefusedError,
    InvalidRequestError,
    PatchesError,
    StaleSubmissionError,
)
from patches.model.change import Change, ChangeInput
from patches_server.documents.records import CommitOptions
from patches_server.ot.commit import Decision, decide
from patches_server.ot.submission import (
    Submission,
    admit,
    crosses_count,
    needs_first_change,
    session_gap,
)

NOW = 1_700_000_000_000
TIMEOUT = 30 * 60_000
ROOT = [{"op": "replace", "path": "", "value": {}}]


def sent(change_id: str, **fields: Any) -> ChangeInput:
    ops = [{"op": "replace", "path": f"/{change_id}", "value": 1}]
    return ChangeInput(**{"id": change_id, "ops": ops, "created_at": NOW, **fields})


def row(rev: int, change_id: str, **fields: Any) -> Change:
    values: dict[str, Any] = {
        "id": change_id,
        "ops": [{"op": "replace", "path": f"/{change_id}", "value": 1}],
        "base_rev": rev - 1,
        "rev": rev,
        "created_at": NOW,
        "committed_at": NOW,
        **fields,
    }
    return Change(**values)


def admitted(*changes: ChangeInput, initial_rev: int = 0, **options: Any) -> Submission:
    values: dict[str, Any] = {"first_change": None, "client_id": "me", "now": NOW, **options}
    given = values.pop("options", None)
    return admit("d", changes, given, initial_rev=initial_rev, **values)


def decided(submission: Submission, *rows: Change, **options: Any) -> Decision:
    values: dict[str, Any] = {"stored_ids": (), "session_timeout": TIMEOUT, **options}
    rev = values.pop("current_rev", rows[-1].rev if rows else submission.base_rev)
    return decide(submission, rows, rev, **values)


def shown(changes: list[Change]) -> list[tuple[str, int]]:
    return [(change.id, change.rev) for change in changes]


def test_what_is_absent_is_filled_in() -> None:
    submission = admitted(
        sent("a", created_at=None),
        sent("b", created_at=0),
        sent("c", rev=9),
        sent("d"),
        initial_rev=4,
    )
    assert [(c.base_rev, c.rev, c.created_at) for c in submission.changes] == [
        (4, 5, NOW),
        (4, 6, NOW),
        (4, 9, NOW),
        (4, 10, NOW),
    ]
    assert {c.client_id for c in submission.changes} == {"me"}


def test_without_an_identity_changes_keep_theirs() -> None:
    submission = admitted(sent("a", client_id="them"), client_id=None)
    assert submission.changes[0].client_id == "them"


@pytest.mark.parametrize(
    ("changes", "options", "error"),
    [
        ([sent("a", ops=ROOT, base_rev=3)], {}, ChangeRefusedError),
        ([sent("a", base_rev=3), sent("b", ops=ROOT, base_rev=3)], {}, ChangeRefusedError),
        ([sent("a", ops=ROOT, base_rev=9)], {}, ChangeRefusedError),  # before "ahead"
        ([sent("a", base_rev=0, rev=2)], {}, StaleSubmissionError),
        ([sent("a", base_rev=0, rev=2), sent("b", base_rev=1)], {}, StaleSubmissionError),
        ([sent("a", base_rev=3), sent("b", base_rev=2)], {}, InvalidRequestError),
        ([sent("a"), sent("b", base_rev=2)], {}, InvalidRequestError),
        ([sent("a", base_rev=4)], {}, StaleSubmissionError),
    ],
    ids=[
        "root",
        "root later in the batch",
        "root before ahead",
        "continuation",
        "continuation before mixed bases",
        "mixed bases",
        "mixed with absent",
        "ahead",
    ],
)
def test_refusals(
    changes: list[ChangeInput], options: dict[str, Any], error: type[PatchesError]
) -> None:
    with pytest.raises(error):
        admitted(*changes, initial_rev=3, first_change=row(1, "first"), **options)


def test_the_refused_root_write_is_named() -> None:
    with pytest.raises(ChangeRefusedError) as raised:
        admitted(sent("a", base_rev=3), sent("b", ops=ROOT, base_rev=3), initial_rev=3)
    assert raised.value.change_id == "b"


def test_an_empty_text_is_a_root_write_whatever_its_operation() -> None:
    with pytest.raises(ChangeRefusedError):
        admitted(sent("a", ops=[{"op": "remove", "path": ""}], base_rev=3), initial_rev=3)


def test_a_privileged_root_write_is_admitted() -> None:
    options = CommitOptions(allow_root_replace=True)
    submission = admitted(sent("a", ops=ROOT, base_rev=3), initial_rev=3, options=options)
    assert submission.base_rev == 3


def test_a_client_that_never_synced_is_put_onto_the_head() -> None:
    submission = admitted(
        sent("a", base_rev=0), sent("b", base_rev=7), initial_rev=3, first_change=row(1, "x")
    )
    assert submission.reload_required
    assert [c.base_rev for c in submission.changes] == [3, 3]


@pytest.mark.parametrize("rev", [1, 2])
def test_an_upload_is_known_by_its_batch_or_by_its_first_change(rev: int) -> None:
    by_batch = admitted(
        sent("b", base_rev=0, rev=rev, batch_id="up"),
        initial_rev=3,
        first_change=row(1, "a", batch_id="up"),
    )
    by_id = admitted(sent("a", base_rev=0, rev=rev), initial_rev=3, first_change=row(1, "a"))
    for submission in (by_batch, by_id):
        assert submission.resumes_upload
        assert not submission.reload_required
        assert submission.base_rev == 0


def test_the_oldest_change_is_read_only_where_it_counts() -> None:
    assert not needs_first_change([sent("a", base_rev=0, ops=ROOT)], None, 0)
    assert not needs_first_change([sent("a", base_rev=2)], None, 3)
    assert not needs_first_change([sent("a")], None, 3)
    assert needs_first_change([sent("a", base_rev=0)], None, 3)
    assert needs_first_change([sent("a", base_rev=2, ops=ROOT)], None, 3)
    allowed = CommitOptions(allow_root_replace=True)
    assert not needs_first_change([sent("a", base_rev=2, ops=ROOT)], allowed, 3)


def test_foreign_changes_are_the_catch_up() -> None:
    submission = admitted(sent("a", base_rev=1), initial_rev=3)
    decision = decided(submission, row(2, "x", client_id="u"), row(3, "y", client_id="u"))
    assert shown(decision.catch_up) == [("x", 2), ("y", 3)]
    assert shown(decision.to_store) == [("a", 4)]
    assert decision.session_origin is None


def test_an_echo_is_told_from_a_foreign_change() -> None:
    submission = admitted(sent("a", base_rev=1), sent("b", base_rev=1), initial_rev=3)
    mine, theirs = row(2, "a", client_id="old-me"), row(3, "x", client_id="u")
    decision = decided(submission, mine, theirs)
    assert shown(decision.catch_up) == [("a", 2), ("x", 3)]
    assert shown(decision.to_store) == [("b", 4)]


@pytest.mark.parametrize(
    ("committed", "sent_at", "own"),
    [
        ({"client_id": "u", "created_at": NOW - 5}, NOW - 5, True),
        ({"client_id": "u", "created_at": NOW - 5}, NOW - 6, False),
        ({"client_id": "u", "created_at": NOW - 9, "committed_at": NOW - 9}, NOW - 5, True),
        ({"client_id": "u", "created_at": 0}, NOW, True),
        ({"client_id": "u", "created_at": NOW - 5}, None, True),
        ({"client_id": "me", "created_at": NOW - 5}, NOW, True),
        ({"client_id": None, "created_at": NOW - 5}, NOW, True),
    ],
    ids=[
        "same time",
        "another time",
        "clamped",
        "row without",
        "sent without",
        "same client",
        "row without client",
    ],
)
def test_whose_a_committed_id_is(committed: dict[str, Any], sent_at: Any, own: bool) -> None:
    submission = admitted(sent("a", base_rev=1, created_at=sent_at), initial_rev=2)
    decision = decided(submission, row(2, "a", **committed))
    assert shown(decision.catch_up) == [("a", 2)]
    assert (not decision.to_store) is own


@pytest.mark.parametrize(
    "first",
    [{"batch_id": "a"}, {"batch_id": None}],
    ids=["sent as a batch", "sent before there was a batch"],
)
def test_an_upload_in_batches_goes_on_over_another_connection(first: dict[str, Any]) -> None:
    # Its first part was sent again, alone, and is not in this request.
    text = {"op": "@txt", "path": "/t"}
    submission = admitted(
        sent(
            "b", base_rev=1, batch_id="a", ops=[{**text, "value": [{"retain": 3}, {"insert": "d"}]}]
        ),
        initial_rev=3,
    )
    begun = row(2, "a", client_id="before", ops=[{**text, "value": [{"insert": "abc"}]}], **first)
    other = row(3, "x", client_id="other", ops=[{**text, "value": [{"insert": "__"}]}])
    decision = decided(submission, begun, other)
    assert shown(decision.catch_up) == [("x", 3)]
    assert decision.to_store[0].ops == [{**text, "value": [{"retain": 5}, {"insert": "d"}]}]


def test_a_resumed_upload_owns_what_was_there_when_it_was_admitted_and_nothing_later() -> None:
    theirs = {"client_id": "another connection", "created_at": NOW - 99}
    first, second, third = (row(rev, name, **theirs) for rev, name in enumerate("abc", start=1))
    changes = [sent(name, base_rev=0, rev=1) for name in "abc"]
    submission = admitted(*changes, initial_rev=2, first_change=first)
    assert submission.resumes_upload
    resumed = decided(submission, first, second)
    assert shown(resumed.catch_up) == [("a", 1), ("b", 2)]
    assert shown(resumed.to_store) == [("c", 3)]
    # Committed while this was decided: of the same id, and not of this upload.
    raced = decided(submission, first, second, third)
    assert shown(raced.to_store) == [("c", 4)]


def test_ids_that_the_store_knows_are_left_out() -> None:
    submission = admitted(sent("a", base_rev=1), sent("b", base_rev=1), initial_rev=1)
    decision = decided(submission, stored_ids={"a"})
    assert shown(decision.to_store) == [("b", 2)]
    assert decided(submission, stored_ids={"a", "b"}).to_store == []


def test_the_first_of_two_with_one_id_counts() -> None:
    submission = admitted(
        sent("a", base_rev=1), sent("b", base_rev=1), sent("a", base_rev=1, ops=[]), initial_rev=1
    )
    decision = decided(submission)
    assert shown(decision.to_store) == [("a", 2), ("b", 3)]
    assert decision.to_store[0].ops


def test_an_offline_commit_without_foreign_changes_is_taken_whole() -> None:
    old = NOW - TIMEOUT - 1
    submission = admitted(sent("a", base_rev=1, created_at=old, ops=[]), initial_rev=1)
    decision = decided(submission)
    assert shown(decision.to_store) == [("a", 2)]
    assert decision.session_origin == "main"
    live = admitted(sent("a", base_rev=1, ops=[]), initial_rev=1)
    assert decided(live).to_store == []


def test_an_offline_commit_beside_foreign_changes_is_a_branch_of_its_own() -> None:
    old = NOW - TIMEOUT - 1
    submission = admitted(sent("a", base_rev=1, created_at=old), initial_rev=2)
    decision = decided(submission, row(2, "x", client_id="u"))
    assert decision.session_origin == "offline-branch"


def test_arguments_are_left_as_they_are() -> None:
    ops = [{"op": "add", "path": "/l/1", "value": 1}]
    submission = admitted(sent("a", base_rev=1, ops=ops), initial_rev=2)
    foreign = row(2, "x", ops=[{"op": "add", "path": "/l/0", "value": 2}], client_id="u")
    decision = decided(submission, foreign)
    assert decision.to_store[0].ops == [{"op": "add", "path": "/l/2", "value": 1}]
    assert ops == [{"op": "add", "path": "/l/1", "value": 1}]
    assert submission.changes[0].ops == ops


def test_a_pause_ends_a_session_by_the_server_time() -> None:
    submission = admitted(sent("a", base_rev=1, created_at=5), initial_rev=1)
    assert not session_gap(NOW - TIMEOUT, submission, TIMEOUT)
    assert session_gap(NOW - TIMEOUT - 1, submission, TIMEOUT)


@pytest.mark.parametrize(
    ("initial_rev", "count", "step", "crosses"),
    [(2, 1, 4, False), (3, 1, 4, True), (4, 1, 4, False), (3, 9, 4, True), (3, 9, 0, False)],
)
def test_a_multiple_of_the_step_is_crossed(
    initial_rev: int, count: int, step: int, crosses: bool
) -> None:
    changes = [sent(f"c{n}", base_rev=initial_rev) for n in range(count)]
    submission = admitted(*changes, initial_rev=initial_rev, first_change=row(1, "x"))
    assert crosses_count(submission, step) is crosses


def test_parts_of_length_0_are_not_stored() -> None:
    edit = {"op": "@txt", "path": "/t", "value": [{"retain": 0}, {"insert": "x"}]}
    submission = admitted(sent("a", ops=[edit], base_rev=0))
    assert submission.changes[0].ops == [{**edit, "value": [{"insert": "x"}]}]


def test_moves_count_as_several_steps_of_a_transform() -> None:
    removes = [{"op": "remove", "path": "/l/0"} for _ in range(10)]
    moves = [{"op": "move", "from": "/l/5", "path": "/l/7"} for _ in range(10)]
    submission = admitted(sent("a", ops=removes, base_rev=1, rev=2), initial_rev=2)
    decided(submission, row(2, "b", ops=removes), max_steps=100)
    with pytest.raises(StaleSubmissionError):
        decided(submission, row(2, "b", ops=moves), max_steps=399)
    decided(submission, row(2, "b", ops=moves), max_steps=400)


def test_a_long_transform_ends_when_its_checkpoint_raises() -> None:
    def end() -> None:
        raise TimeoutError

    removes = [{"op": "remove", "path": f"/l/{at}"} for at in range(3)]
    moves = [{"op": "move", "from": "/l/5", "path": "/l/0"} for _ in range(3)]
    submission = admitted(sent("a", ops=removes, base_rev=1, rev=2), initial_rev=2)
    with pytest.raises(TimeoutError):
        decided(submission, row(2, "b", ops=moves), checkpoint=end)
