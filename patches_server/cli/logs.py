"""Log lines of the command `patches-server`: one event a line, ids and no content.

Whatever a peer sends can end up in an id. So ids are cut, control characters are escaped, no line
begins with text of a peer's, and what happens again and again on one connection is written once a
minute, with how often (`docs/internals/reliability.md` T31).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from aiohttp.http_exceptions import HttpProcessingError

from patches.model import codec
from patches_server.documents.context import current_context

LogFormat: TypeAlias = Literal["text", "json"]

_MAX_ID: Final = 128
_MAX_MESSAGE: Final = 1_000
_MAX_TRACEBACK: Final = 8_000
_MINUTE_S: Final = 60.0
_REMEMBERED: Final = 10_000

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message", "asctime", "taskName", "suppressed",
}  # fmt: skip
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def set_up_logs(style: LogFormat, *, level: int) -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    handler.addFilter(OncePerMinute())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class OncePerMinute(logging.Filter):
    """Lets a line of one kind and connection pass once a minute; debug lines always.

    The kind is the place in the code, not the text. The next line that passes carries in
    `suppressed` how many did not.
    """

    def __init__(self) -> None:
        super().__init__()
        #: Kind -> when a line last passed, how many were held back since.
        self._kinds: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes; adds the connection of the call that is being served."""
        _leave_out_the_request(record)
        connection = getattr(record, "connection", None) or current_context().connection_id
        if connection is not None:
            record.connection = connection
        if record.levelno <= logging.DEBUG:
            return True
        kind = (record.name, record.pathname, record.lineno, connection)
        last, held_back = self._kinds.get(kind, (None, 0))
        if last is not None and 0 <= record.created - last < _MINUTE_S:
            self._kinds[kind] = last, held_back + 1
            return False
        if held_back:
            record.suppressed = held_back
        self._kinds.pop(kind, None)  # to the end: the oldest are forgotten first
        self._kinds[kind] = record.created, 0
        if len(self._kinds) > _REMEMBERED:
            del self._kinds[next(iter(self._kinds))]
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `event`, then what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _message(record),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)[-_MAX_TRACEBACK:]
        return codec.encode_text(line)


class TextLines(logging.Formatter):
    """The same for people. A traceback is indented: only an event begins a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it."""
        facts = "".join(f" {name}={_shown(value)}" for name, value in _facts(record).items())
        text = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}{facts}"
        if record.exc_info:
            traceback = self.formatException(record.exc_info)[-_MAX_TRACEBACK:]
            text += "".join(f"\n    {_escaped(line)}" for line in traceback.splitlines())
        return text


def _leave_out_the_request(record: logging.LogRecord) -> None:
    """aiohttp writes what is wrong with a request, and a traceback to it, and what sub-protocols it
    does not know: each may hold a token (`docs/internals/reliability.md` T3)."""
    if record.name == "aiohttp.websocket" and record.args:
        record.msg, record.args = "a peer offers other sub-protocols than ours", ()
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info = record.exc_text = None
        record.msg, record.args = "a request that is no HTTP: %s", (type(error).__name__,)
        record.levelno, record.levelname = logging.WARNING, "WARNING"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _message(record: logging.LogRecord) -> str:
    return _escaped(record.getMessage())[:_MAX_MESSAGE]


def _facts(record: logging.LogRecord) -> Mapping[str, Any]:
    facts = {name: _cut(value) for name, value in vars(record).items() if name not in _STANDARD}
    suppressed = getattr(record, "suppressed", 0)
    return {**facts, "suppressed": suppressed} if suppressed else facts


def _cut(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:_MAX_ID]


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
