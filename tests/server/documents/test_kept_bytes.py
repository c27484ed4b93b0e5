"""What is kept of documents stays within its bytes."""

from __future__ import annotations

from patches_server.documents.kept_bytes import KeptBytes


def test_what_was_not_asked_for_longest_goes_first() -> None:
    kept = KeptBytes[str](max_bytes=10_000)
    for number in range(4):
        kept.put(f"d{number}", f"value {number}", 2_000)
    assert kept.get("d0") == "value 0"
    kept.put("d4", "value 4", 2_000)
    assert kept.size <= 10_000
    assert [kept.get(f"d{number}") is not None for number in range(5)] == [True, False, *[True] * 3]


def test_what_would_take_half_of_the_room_is_not_kept() -> None:
    kept = KeptBytes[str](max_bytes=10_000)
    kept.put("small", "s", 100)
    kept.put("large", "l", 5_000)
    assert kept.get("large") is None
    assert kept.get("small") == "s"


def test_a_value_replaces_the_one_before_and_what_is_forgotten_takes_nothing() -> None:
    kept = KeptBytes[str](max_bytes=10_000)
    kept.put("d", "old", 1_000)
    kept.put("d", "new", 500)
    assert (kept.get("d"), len(kept)) == ("new", 1)
    kept.forget("d")
    kept.forget("d")
    assert (kept.get("d"), len(kept), kept.size) == (None, 0, 0)
