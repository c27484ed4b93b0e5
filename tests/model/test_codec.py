"""JSON to bytes and back: fast, and tolerant of what a browser can send."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.errors import InvalidJsonError
from patches.model.codec import Encoded, decode, encode, encode_array, encode_text, json_size

any_text = st.text(st.characters(exclude_categories=()), max_size=5)  # lone surrogates too
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(value=values)
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    assert repr(decode(encode(value))) == repr(value)
    assert decode(encode_text(value)) == value
    assert json.loads(encode(value)) == value


@settings(max_examples=200, deadline=None)
@given(value=values)
def test_the_size_is_that_of_compact_json_with_escaped_halves(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    size = sum(6 if "\ud800" <= char <= "\udfff" else len(char.encode()) for char in text)
    # The two encoders write some floats and control characters differently.
    if encode(value) == text.encode("utf-8", "surrogatepass"):
        assert json_size(value) == size == len(encode(value))
    if any("\ud800" <= char <= "\udfff" for char in text):
        assert json_size(value) == size


def test_encoded_parts_are_spliced_in_as_they_are() -> None:
    part = Encoded(b'{"a" : 1}')
    assert encode({"changes": [part, part]}) == b'{"changes":[{"a" : 1},{"a" : 1}]}'
    assert decode(encode({"odd": "\ud800", "part": part})) == {"odd": "\ud800", "part": {"a": 1}}
    assert encode_array([b"1", b"{}"]) == b"[1,{}]"
    assert encode_array([]) == b"[]"


@pytest.mark.parametrize("data", ['{"a":"\\ud83d"}', b'{"a":"\\ud83d"}', '{"a":"\ud83d"}'])
def test_a_lone_half_of_a_pair_is_read(data: str | bytes) -> None:
    assert decode(data) == {"a": "\ud83d"}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_deep_values_are_written_as_deep_as_they_are_read() -> None:
    assert decode(encode(nested(500))) == nested(500)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1,]", b"nope", b"NaN", b"[Infinity]", b"\xff", "[" * 100_000, b'{"a":1}x', "é"],
    ids=range(10),
)
def test_what_is_not_json_is_an_error_of_ours(data: str | bytes) -> None:
    with pytest.raises(InvalidJsonError):
        decode(data)


@pytest.mark.parametrize("data", [b"[" + b"[]," * 100_000, b"[[]]x" + b" " * 300_000])
def test_what_is_long_and_no_json_is_not_read_twice(
    monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(InvalidJsonError, match="not JSON") as refused:
        decode(data)
    assert isinstance(refused.value.__cause__, json.JSONDecodeError)


def test_long_text_keeps_the_halves_of_pairs_and_the_collector_goes_on() -> None:
    long = ["\ud83d", "x" * 300_000]
    assert decode(encode(long)) == long
    assert gc.isenabled()
    gc.disable()
    try:
        assert decode(encode(long)) == long
        assert not gc.isenabled(), "as it was"
    finally:
        gc.enable()


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {"a": object()}, ["\ud800", math.nan]])
def test_what_cannot_be_written_is_an_error_of_ours(value: Any) -> None:
    with pytest.raises(InvalidJsonError):
        encode(value)
    with pytest.raises(InvalidJsonError):
        json_size(value)


@pytest.mark.parametrize("length", [10, 1_000, 3_000, 50_000])
def test_what_is_kept_takes_its_own_length(length: int) -> None:
    value = "x" * length
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [encode(value) for _ in range(100)]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(kept[0]) == length + 2
    assert taken < 100 * (length + 500)
