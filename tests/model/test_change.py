"""Changes and snapshots: camelCase on the wire, encoded once, decoded on demand."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.errors import InvalidRequestError
from patches.model import codec
from patches.model.change import Change, ChangeInput, Snapshot, replaced

WIRE = {
    "id": "1abcd",
    "ops": [{"op": "replace", "path": "/a", "value": 1}],
    "baseRev": 0,
    "rev": 1,
    "createdAt": 5,
    "committedAt": 7,
    "batchId": "b",
    "clientId": "c",
    "user": {"name": "x"},
}


def a_change(**fields: Any) -> Change:
    return Change(**{"id": "x", "ops": [], "base_rev": 0, "rev": 1, "created_at": 0, **fields})


def test_the_wire_form_and_back() -> None:
    change = Change.from_wire(WIRE)
    assert (change.base_rev, change.created_at, change.batch_id) == (0, 5, "b")
    assert change.metadata == {"user": {"name": "x"}}
    assert change.to_wire() == WIRE
    assert codec.decode(change.encoded) == WIRE
    assert change.encoded is change.encoded


def test_fields_that_are_not_set_are_left_out_and_null_is_not_set() -> None:
    change = Change.from_wire({"id": "x", "ops": [], "baseRev": 0, "rev": 1, "batchId": None})
    assert (change.created_at, change.committed_at, change.batch_id) == (0, 0, None)
    assert change.to_wire() == {
        "id": "x",
        "ops": [],
        "baseRev": 0,
        "rev": 1,
        "createdAt": 0,
        "committedAt": 0,
    }


@pytest.mark.parametrize("field", ["id", "ops", "baseRev", "rev"])
def test_a_change_without_a_required_field_is_refused(field: str) -> None:
    wire = {key: value for key, value in WIRE.items() if key != field}
    with pytest.raises(InvalidRequestError, match="lacks"):
        Change.from_wire(wire)


def test_a_stored_change_is_decoded_only_when_more_is_asked_than_is_known() -> None:
    encoded = codec.encode(WIRE)
    change = Change.from_encoded(encoded, rev=1, id="1abcd")
    assert change.encoded is encoded
    with pytest.raises(AttributeError):
        object.__getattribute__(change, "ops")
    assert (change.rev, change.id) == (1, "1abcd")
    assert change.ops == WIRE["ops"]
    assert change.base_rev == 0
    assert change.encoded is encoded
    broken = Change.from_encoded(b"not json", rev=3)
    assert broken.rev == 3, "what is known costs no decoding"


def test_a_change_is_immutable_and_replace_encodes_anew() -> None:
    change = Change.from_wire(WIRE)
    before = change.encoded
    with pytest.raises(AttributeError):
        change.rev = 2
    with pytest.raises(AttributeError):
        del change.rev
    later = change.replace(rev=2)
    assert (later.rev, change.rev) == (2, 1)
    assert codec.decode(later.encoded) == {**WIRE, "rev": 2}
    assert change.encoded is before
    with pytest.raises(TypeError):
        change.replace(nope=1)


def test_equality_hash_repr_and_pickle_go_by_value() -> None:
    change, same = Change.from_wire(WIRE), Change.from_encoded(codec.encode(WIRE))
    assert change == same == pickle.loads(pickle.dumps(same))
    assert hash(change) == hash(same)
    assert change != change.replace(rev=2)
    assert change != WIRE
    assert "base_rev=0" in repr(same)
    with pytest.raises(AttributeError):
        _ = change.nope


def test_an_input_leaves_revisions_and_times_open() -> None:
    change = ChangeInput.from_wire({"id": "x", "ops": [], "extra": 1})
    assert (change.base_rev, change.rev, change.created_at, change.committed_at) == (
        None,
        None,
        None,
        0,
    )
    assert change.metadata == {"extra": 1}
    assert replaced(change, rev=4).rev == 4
    assert replaced(a_change(), rev=4).rev == 4


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["createdAt", "committedAt"]), st.integers(0, 2**53 - 1), max_size=2
    ),
    st.dictionaries(st.text("xyz", min_size=1), st.integers() | st.text(), max_size=2),
)
def test_wire_forms_round_trip(times: dict[str, int], metadata: dict[str, Any]) -> None:
    wire = {**WIRE, **times, **metadata}
    assert Change.from_wire(wire).to_wire() == wire
    assert Change.from_wire(Change.from_wire(wire).to_wire()) == Change.from_wire(wire)


def test_a_snapshot_parses_and_encodes_its_state_once() -> None:
    stored = Snapshot.from_encoded(b'{"a":[1]}', rev=3)
    assert stored.encoded_state == b'{"a":[1]}'
    assert stored.state is stored.state
    assert stored.state == {"a": [1]}
    assert stored.to_wire()["state"].data == b'{"a":[1]}'
    made = Snapshot(state={"a": [1]}, rev=3)
    assert made == stored
    assert made.encoded_state is made.encoded_state
    assert made != Snapshot(state={"a": [1]}, rev=4)
    assert made != "snapshot"
    assert "rev=3" in repr(made)


def test_a_snapshot_and_its_changes_round_trip_without_being_parsed() -> None:
    change = Change.from_encoded(b'{"id":"x","ops":[],"baseRev":3,"rev":4}', rev=4)
    snapshot = Snapshot.from_encoded(b"null", rev=3, changes=[change])
    wire = codec.decode(codec.encode(snapshot.to_wire()))
    assert wire == {
        "state": None,
        "rev": 3,
        "changes": [{"id": "x", "ops": [], "baseRev": 3, "rev": 4}],
    }
    again = Snapshot.from_wire(wire)
    assert again == snapshot
    assert (again.head, Snapshot(state=1, rev=2).head) == (4, 2)
