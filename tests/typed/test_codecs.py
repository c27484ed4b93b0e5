"""The wire forms of Python's own classes, which never change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches import Patches
from patches.errors import InvalidRequestError, InvalidValueError, StateTypeError
from patches.testing.fixtures import PatchesClient, ServerFixture
from patches.testing.migrations import check_codec
from patches.typed import CODECS, BigInt, Codec, Misfit, converter_of


class Mood(Enum):
    GOOD = "good"
    BAD = 2


@dataclass
class Values:
    at: datetime | None = None
    local: datetime | None = None
    day: date | None = None
    hour: time | None = None
    lasts: timedelta | None = None
    price: Decimal | None = None
    id: UUID | None = None
    data: bytes = b""
    mood: Mood = Mood.GOOD
    pair: tuple[int, str] = (0, "")
    many: tuple[int, ...] = ()
    big: BigInt = 0


ALL = Values(
    datetime(2026, 11, 30, 20, 0, 5, tzinfo=UTC),
    datetime(2026, 11, 30, 20, 0, 5, 120),  # noqa: DTZ001  # a local time
    date(2026, 11, 30),
    time(20, 0, 5),
    timedelta(days=1, seconds=3, milliseconds=500),
    Decimal("1.10"),
    UUID("12345678-1234-5678-1234-567812345678"),
    b"\x00\xff",
    Mood.BAD,
    (1, "a"),
    (1, 2, 3),
    2**70,
)
WIRE = {
    "at": "2026-11-30T20:00:05Z",
    "local": "2026-11-30T20:00:05.000120",
    "day": "2026-11-30",
    "hour": "20:00:05",
    "lasts": "P1DT3.5S",
    "price": "1.10",
    "id": "12345678-1234-5678-1234-567812345678",
    "data": "AP8=",
    "mood": 2,
    "pair": [1, "a"],
    "many": [1, 2, 3],
    "big": "1180591620717411303424",
}


async def test_s08_every_value_survives_a_file_a_server_and_back(
    tmp_path: Path, patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    ann = await patches_client("ann", store=tmp_path / "ann.db")
    doc = await ann.open_doc("values", type=Values)
    doc.set(ALL)
    assert doc.raw == WIRE
    await patches_server.settled()
    bob = await patches_client("bob")
    other = await bob.open_doc("values", type=Values)
    await patches_server.settled()
    assert other.state == ALL
    await ann.restart()
    assert (await ann.open_doc("values", type=Values)).state == ALL


FORMS: list[tuple[object, str]] = [
    (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T03:00:00+02:00"),
    (timedelta(), "PT0S"),
    (timedelta(days=2), "P2D"),
    (-timedelta(seconds=1, microseconds=5), "-PT1.000005S"),
    (Decimal("-0.00"), "-0.00"),
    (time(1, 2, 3, 4), "01:02:03.000004"),
]


@pytest.mark.parametrize(("value", "written"), FORMS, ids=lambda value: str(value))
def test_a_value_has_its_form(value: Any, written: str) -> None:
    codec = CODECS[type(value)]
    assert codec.encode(value) == written
    assert codec.decode(written) == value


@given(st.datetimes(timezones=st.just(UTC)) | st.datetimes())
def test_datetimes_survive(value: datetime) -> None:
    check_codec(datetime, [value])


@given(st.timedeltas())
def test_timedeltas_survive(value: timedelta) -> None:
    check_codec(timedelta, [value])


@given(st.binary(), st.dates(), st.times(), st.uuids())
def test_others_survive(data: bytes, day: date, hour: time, uuid: UUID) -> None:
    for value in (data, day, hour, uuid):
        check_codec(type(value), [value])


UNREADABLE = [
    (datetime, "2026-11-30"),
    (datetime, 3),
    (date, "2026-11-30T20:00:05"),
    (date, "2026-02-30"),
    (time, "25:00:00"),
    (timedelta, "P"),
    (timedelta, "PT"),
    (Decimal, "NaN"),
    (Decimal, 1.5),
    (UUID, "{12345678-1234-5678-1234-567812345678}"),
    (bytes, "?"),
    (Mood, "so-so"),
    (tuple[int, str], [1]),
    (BigInt, "1.5"),
]


@pytest.mark.parametrize(("type_", "value"), UNREADABLE, ids=lambda value: str(value))
def test_what_was_not_written_is_not_read(type_: Any, value: object) -> None:
    with pytest.raises(Misfit):
        converter_of(type_).decode(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("price", Decimal("NaN")),
        ("day", datetime(2026, 1, 1)),  # noqa: DTZ001  # would lose its time
        ("pair", [1, "a"]),
        ("at", "2026-11-30T20:00:05Z"),
    ],
)
async def test_what_does_not_fit_is_not_written(name: str, value: object) -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("values", type=Values)
        with pytest.raises(StateTypeError):
            doc.change(lambda draft: setattr(draft, name, value))
        assert doc.raw == {}


async def test_values_are_read_in_a_draft_as_they_were_written() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("values", type=Values)
        with doc.edit() as draft:
            draft.day = date(2026, 1, 31)
            draft.pair = (1, "x")
            assert (draft.day, draft.pair, draft.big) == (date(2026, 1, 31), (1, "x"), 0)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    def __hash__(self) -> int:
        return self.cents


@dataclass
class Bill:
    total: Money


MONEY = Codec(lambda money: {"cents": money.cents}, lambda value: Money(value["cents"]))


async def test_a_program_brings_codecs_of_its_own() -> None:
    check_codec(Money, [Money(3)], MONEY)
    with pytest.raises(AssertionError, match="is written as"):
        check_codec(float, [1.5], Codec(int, float))
    with pytest.raises(InvalidRequestError, match=r"Bill\.total: no converter"):
        await Patches().open_doc("bill", type=Bill)
    async with Patches(codecs={Money: MONEY}) as patches:
        doc = await patches.open_doc("bill", type=Bill, default=Bill(Money(0)))
        doc.change(lambda draft: setattr(draft, "total", Money(150)))
        assert (doc.raw, doc.state) == ({"total": {"cents": 150}}, Bill(Money(150)))


async def test_sets_are_refused_with_what_to_use_instead() -> None:
    @dataclass
    class Tags:
        names: set[str]

    with pytest.raises(InvalidRequestError, match=r"Tags\.names: .*use dict\[str, bool\]"):
        converter_of(Tags)
    async with Patches(encode_values=True) as patches:
        doc = await patches.open_doc("d")
        with pytest.raises(InvalidValueError, match="a set does not merge"):
            doc.change(lambda draft: draft.update(tags={"a"}))
