"""Log lines: one a line, ids and no content, no flood (`docs/internals/reliability.md` T31)."""

from __future__ import annotations

import json
import logging

from patches_server.cli.logs import JsonLines, OncePerMinute, TextLines
from patches_server.documents.context import CallContext, call_context

FORGED = "a\n2026-01-01 ERROR forged"


def a_record(
    message: str = "something", *, level: int = logging.WARNING, line: int = 1, **facts: object
) -> logging.LogRecord:
    record = logging.LogRecord("patches_server", level, "here.py", line, message, (), None)
    record.created = 1_000.5
    vars(record).update(facts)
    return record


def with_error(text: str) -> logging.LogRecord:
    record = a_record("it failed")
    try:
        raise ValueError(text)
    except ValueError as exc:
        record.exc_info = (type(exc), exc, exc.__traceback__)
    return record


def test_a_json_line_has_the_event_and_what_belongs_to_it() -> None:
    line = JsonLines().format(a_record(connection="abc", code=1001, other=None))
    assert json.loads(line) == {
        "time": "1970-01-01T00:16:40.500+00:00",
        "level": "warning",
        "logger": "patches_server",
        "event": "something",
        "connection": "abc",
        "code": 1001,
        "other": None,
    }


def test_a_text_line_says_the_same() -> None:
    assert TextLines().format(a_record(connection="abc", code=1001)) == (
        "1970-01-01T00:16:40.500+00:00 WARNING patches_server: something connection='abc' code=1001"
    )


def test_no_line_begins_with_what_a_peer_sent() -> None:
    for record in (a_record(FORGED), a_record(connection=FORGED), with_error(FORGED)):
        assert "\n" not in JsonLines().format(record)
        first, *rest = TextLines().format(record).split("\n")
        assert first.startswith("1970-")
        assert all(line.startswith("    ") for line in rest)


def test_half_a_character_and_long_ids_can_be_written() -> None:
    record = a_record("half \ud83d", doc="x" * 5_000)
    for formatter in (JsonLines(), TextLines()):
        assert formatter.format(record).encode("utf-8", "backslashreplace").count(b"x") == 128


def test_a_traceback_is_kept_and_bounded() -> None:
    line = json.loads(JsonLines().format(with_error("x" * 100_000)))
    assert len(line["traceback"]) == 8_000
    assert "ValueError: short" in json.loads(JsonLines().format(with_error("short")))["traceback"]


def test_one_kind_on_one_connection_passes_once_a_minute_and_says_how_often() -> None:
    filter_ = OncePerMinute()

    def passes(after_s: float, **facts: object) -> logging.LogRecord | None:
        record = a_record(**facts)  # type: ignore[arg-type]  # keywords of `a_record`
        record.created = 1_000.0 + after_s
        return record if filter_.filter(record) else None

    assert passes(0, connection="a")
    assert not any(passes(second, connection="a") for second in range(1, 60))
    assert passes(1, connection="b"), "another connection"
    assert passes(1, connection="a", line=2), "another kind"
    assert passes(1, connection="a", level=logging.DEBUG), "what was asked for is not held back"
    again = passes(60, connection="a")
    assert again is not None
    assert '"suppressed":59' in JsonLines().format(again)
    assert passes(-500, connection="a"), "the clock was set back"


def test_a_line_of_a_call_names_its_connection() -> None:
    record = a_record()
    with call_context(CallContext(connection_id="c1")):
        assert OncePerMinute().filter(record)
    assert "connection='c1'" in TextLines().format(record)


def test_what_is_remembered_is_bounded() -> None:
    filter_ = OncePerMinute()
    for number in range(10_500):
        filter_.filter(a_record(connection=str(number)))
    assert len(filter_._kinds) == 10_000
