"""Messages of a stream in files: each is an alert, or is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path

import fastavro
import pytest

from tests.pipeline.alerts import changed, lsst, lsst_schema, ztf
from transforms.attempt import Unreadable
from transforms.readers import Source, identify
from transforms.readers.alert_messages import NAME, Message, decode, write_messages
from transforms.records import FileRef, LightCurve

SCHEMAS = {703: json.dumps(lsst_schema(False)), 1000: json.dumps(lsst_schema(True))}


def message(offset: int, value: bytes | None) -> Message:
    return Message("alerts", 3, offset, 1_795_608_000_000 + offset, value)


def test_alerts_with_and_without_their_schemas_are_light_curves(tmp_path: Path) -> None:
    values = [ztf(1), ztf(2, "null"), ztf(3, "deflate", changed()), lsst(4, 703, False), lsst(5, 1000, True)]
    sent = [message(10 * i, value) for i, value in enumerate(values)]
    path = tmp_path / "messages.avro"
    path.write_bytes(write_messages(sent, SCHEMAS))
    with Source(FileRef(url=str(path), source="messages.avro")) as source:
        found = identify(source)
        assert (found.name, found.record) == (NAME, LightCurve)
        entries = [entry for item in found.items(source) for entry in found.entries(source, item)]
    stars = [entry.load() for entry in entries]
    assert [entry.row for entry in entries] == [0, 10, 20, 30, 40], "the offset, gaps and all"
    assert [star.object_id for star in stars] == ["ZTF1", "ZTF2", "ZTF3", "4", "5"]
    assert [star.row for star in stars] == [entry.row for entry in entries]
    assert {star.time.size for star in stars} == {8}


def test_a_file_of_many_messages_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "messages.avro"
    path.write_bytes(write_messages([message(i, ztf(i, "null")) for i in range(600)], {}))
    with Source(FileRef(url=str(path), source="messages.avro")) as source:
        found = identify(source)
        items = list(found.items(source))
        rows = [[entry.row for entry in found.entries(source, item)] for item in items]
    assert [len(part) for part in rows] == [256, 256, 88]
    assert [row for part in rows for row in part] == list(range(600))


def test_the_same_messages_are_the_same_bytes() -> None:
    sent = [message(i, ztf(i, "null")[:50]) for i in range(3)]
    assert write_messages(sent, SCHEMAS) == write_messages(sent, SCHEMAS)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "without a value"),
        (b"", "without a value"),
        (b"garbage", "7 bytes that begin with 67 61 72"),
        (b"\x00\x00", "2 bytes that begin"),
        (b"\x00\x00\x00\x00\x07abc", "number 7, is not known"),
        (lsst(1, 703, False)[:40], "damaged"),
        (lsst(1, 703, False) + b"xx", "2 bytes are left over"),
        (ztf(1, "null")[:-30], "damaged"),
        (ztf(1, "null")[:40], "damaged"),
    ],
)
def test_what_is_no_alert_is_refused_with_its_place(value: bytes | None, words: str) -> None:
    with pytest.raises(Unreadable, match="alerts partition 3 offset 77") as caught:
        decode(message(77, value), SCHEMAS)
    assert words in str(caught.value)


def test_two_alerts_in_a_message_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two"
    with path.open("wb") as stream:
        fastavro.writer(
            stream, {"type": "record", "name": "a", "fields": [{"name": "x", "type": "int"}]}, [{"x": 1}] * 2
        )
    with pytest.raises(Unreadable, match="2 records where one alert is expected"):
        decode(message(1, path.read_bytes()), {})
