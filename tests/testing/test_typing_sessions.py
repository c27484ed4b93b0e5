"""`patches.testing.typing_sessions`: invented sessions and recordings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from patches.errors import PatchesError
from patches.testing.typing_sessions import invented_session, read_recording, replayed


def test_an_invented_session_is_the_same_for_the_same_seed() -> None:
    assert invented_session(7, 500) == invented_session(7, 500)
    assert invented_session(7, 500) != invented_session(8, 500)


def test_an_invented_session_leads_to_its_end_text() -> None:
    session = invented_session(7, 3_000)
    assert replayed(session.start, session.transactions) == session.end
    assert any(deleted for txn in session.transactions for _, deleted, _ in txn)
    assert any(len(txn) > 1 for txn in session.transactions)
    assert not session.end.isascii()


def test_a_session_can_be_cut_short() -> None:
    session = invented_session(7, 100).first(10)
    assert len(session.transactions) == 10
    assert replayed("", session.transactions) == session.end


def test_a_recording_is_read_plain_and_gzipped(tmp_path: Path) -> None:
    recording = {
        "startContent": "ab",
        "endContent": "axb",
        "txns": [{"patches": [[1, 0, "x"]]}],
    }
    plain, packed = tmp_path / "one.json", tmp_path / "one.json.gz"
    plain.write_text(json.dumps(recording))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_recording(plain) == read_recording(packed)
    assert read_recording(plain).transactions == [[(1, 0, "x")]]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "concurrent", "txns": []}'])
def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(PatchesError, match=r"broken\.json"):
        read_recording(path)


def test_a_missing_recording_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PatchesError, match="nowhere"):
        read_recording(tmp_path / "nowhere.json")


def test_the_recordings_lead_to_their_end_texts(traces_dir: Path) -> None:
    for name in ("sveltecomponent", "json-crdt-blog-post"):
        session = read_recording(traces_dir / f"{name}.json.gz")
        assert replayed(session.start, session.transactions) == session.end
