"""The codecs of Python's own classes. These forms are stored in documents and never change."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from patches.typed.converter import Codec


def _write_datetime(value: datetime) -> str:
    text = value.isoformat(timespec="microseconds" if value.microsecond else "seconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?")


def _read_datetime(value: Any) -> datetime:
    if not _RFC3339.fullmatch(value):
        raise ValueError
    read = datetime.fromisoformat(value)
    return read.astimezone(UTC) if value.endswith("Z") else read


def _write_time(value: time) -> str:
    return value.isoformat(timespec="microseconds" if value.microsecond else "seconds")


def _read_date(value: Any) -> date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError
    return date.fromisoformat(value)


def _read_time(value: Any) -> time:
    if not re.fullmatch(r"\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", value):
        raise ValueError
    return time.fromisoformat(value)


_DURATION: Final = re.compile(
    r"(?P<sign>-?)P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?"
    r"(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,6}))?S)?)?"
)


def _write_timedelta(value: timedelta) -> str:
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    seconds = f"{value.seconds}.{value.microseconds:06d}".rstrip("0").rstrip(".")
    if not value.microseconds:
        seconds = str(value.seconds)
    days = f"{value.days}D" if value.days else ""
    rest = f"T{seconds}S" if value.seconds or value.microseconds or not days else ""
    return f"{sign}P{days}{rest}"


def _read_timedelta(value: Any) -> timedelta:
    found = _DURATION.fullmatch(value)
    if found is None or value.endswith(("P", "T")):
        raise ValueError
    number = {name: int(found[name] or 0) for name in ("days", "hours", "minutes", "seconds")}
    micros = int((found["fraction"] or "0").ljust(6, "0"))
    read = timedelta(**number, microseconds=micros)
    return -read if found["sign"] else read


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value}, which is no finite number")
    return str(value)


def _read_decimal(value: Any) -> Decimal:
    if not isinstance(value, str):
        raise TypeError
    read = Decimal(value)
    if not read.is_finite():
        raise ValueError
    return read


def _read_uuid(value: Any) -> UUID:
    read = UUID(value)
    if str(read) != value:
        raise ValueError
    return read


def _read_bytes(value: Any) -> bytes:
    return base64.b64decode(value, validate=True)


def write_big_integer(value: int) -> str:
    """An integer of any size: a decimal string."""
    return str(value)


def read_big_integer(value: Any) -> int:
    """A decimal string, or a small integer that somebody wrote as a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not re.fullmatch(r"-?\d+", value):
        raise ValueError
    return int(value)


CODECS: Final[Mapping[type, Codec]] = {
    datetime: Codec(_write_datetime, _read_datetime),
    date: Codec(date.isoformat, _read_date),
    time: Codec(_write_time, _read_time),
    timedelta: Codec(_write_timedelta, _read_timedelta),
    Decimal: Codec(_write_decimal, _read_decimal),
    UUID: Codec(str, _read_uuid),
    bytes: Codec(lambda value: base64.b64encode(value).decode("ascii"), _read_bytes),
}
BIG_INTEGER: Final = Codec(write_big_integer, read_big_integer)
