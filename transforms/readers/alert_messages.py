"""Messages of an alert stream, kept as they came from a broker: the alert of each is decoded when it is read.

The file is an Avro container of ``Message``, so that any Avro library opens it. A message is an Avro container of one
alert (ZTF, ATLAS), or an alert behind the number of its schema (LSST, with a schema registry); schemas that the
messages name by number travel in the header of the file, and nothing else is needed to read them again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from transforms.attempt import Unreadable, Unusable
from transforms.readers.alert_packets import Packet, load_packet
from transforms.readers.avro import MAGIC, count_records, metadata, read_records
from transforms.readers.format import Entry, Format, Source
from transforms.records import Item, LightCurve

NAME = "alert_messages"
RECORD = "nightcat.Message"
MESSAGES = 256  #: Of one item at most.
WIRE = b"\x00"  #: A message that names its schema by number begins with this byte and 4 bytes of number, big-endian.
_PREFIX = 5
MARKER = b"nightcat.Message"  #: 16 bytes between blocks: random otherwise, and a file is known again by its bytes.
_SCHEMA_KEY = "nightcat.schema."
SCHEMA = {
    "type": "record",
    "name": RECORD,
    "fields": [
        {"name": "topic", "type": "string"},
        {"name": "partition", "type": "int"},
        {"name": "offset", "type": "long"},
        {"name": "time", "type": "long", "doc": "ms since 1970, as the broker has it"},
        {"name": "value", "type": ["null", "bytes"]},
    ],
}


class Message(NamedTuple):
    """One message of a broker.

    Parameters
    ----------
    topic, partition, offset
        Its place.
    time : int
        Its time stamp, in ms since 1970.
    value : bytes or None
        What it holds; None for a message without a value.
    """

    topic: str
    partition: int
    offset: int
    time: int
    value: bytes | None

    @property
    def place(self) -> str:
        """Topic, partition and offset, for sentences."""
        return f"{self.topic} partition {self.partition} offset {self.offset}"

    @property
    def schema_id(self) -> int | None:
        """Number of its schema, None where it carries the schema itself, or nothing that is known."""
        value = self.value
        return int.from_bytes(value[1:_PREFIX]) if value and value[:1] == WIRE and len(value) > _PREFIX else None


def write_messages(messages: Sequence[Message], schemas: Mapping[int, str]) -> bytes:
    """Put messages into a file.

    Parameters
    ----------
    messages : sequence of Message
        In their order.
    schemas : mapping of int to str
        Schemas that they name by number, as JSON.

    Returns
    -------
    bytes
        The file; the same for the same messages.
    """
    import fastavro

    out = io.BytesIO()
    header = {f"{_SCHEMA_KEY}{number}": schemas[number] for number in sorted(schemas)}
    rows = [message._asdict() for message in messages]
    fastavro.writer(out, fastavro.parse_schema(SCHEMA), rows, codec="null", metadata=header, sync_marker=MARKER)
    return out.getvalue()


def decode(message: Message, schemas: Mapping[int, str]) -> tuple[Packet, str]:
    """Decode the alert of a message.

    Parameters
    ----------
    message : Message
        The message.
    schemas : mapping of int to str
        Schemas by number, as JSON.

    Returns
    -------
    packet, schema : mapping, str
        The alert, and the name of its schema.

    Raises
    ------
    Unreadable
        For a message that is no alert, naming its place.
    """
    value = message.value
    if not value:
        raise Unreadable(f"{message.place}: a message without a value")
    if value.startswith(MAGIC):
        return _guarded(message, partial(_contained, value))
    number = message.schema_id
    if number is None:
        head = value[:8].hex(" ")
        raise Unreadable(f"{message.place}: {len(value)} bytes that begin with {head}, which are no Avro message")
    if number not in schemas:
        raise Unreadable(f"{message.place}: its schema, number {number}, is not known")
    return _guarded(message, partial(_numbered, value, schemas[number]))


def _guarded(message: Message, read: Callable[[], tuple[Packet, str]]) -> tuple[Packet, str]:
    try:
        return read()
    except Exception as error:  # the library raises whatever it stumbles over in damaged bytes
        raise Unreadable(f"{message.place}: the alert is damaged: {error or type(error).__name__}") from error


def _contained(value: bytes) -> tuple[Packet, str]:
    import fastavro

    reader = fastavro.reader(io.BytesIO(value))
    packets = list(reader)
    if len(packets) != 1 or not isinstance(packets[0], Mapping):
        raise ValueError(f"{len(packets)} records where one alert is expected")
    schema: Any = reader.writer_schema
    return packets[0], str(schema.get("name", ""))


def _numbered(value: bytes, schema: str) -> tuple[Packet, str]:
    import fastavro

    stream = io.BytesIO(value)
    stream.seek(_PREFIX)
    parsed: Any = _parsed(schema)
    packet: Any = fastavro.schemaless_reader(stream, parsed, None)
    if left := len(value) - stream.tell():
        raise ValueError(f"{left} bytes are left over: it was written with another schema than {parsed.get('name')}")
    if not isinstance(packet, Mapping):
        raise ValueError("its schema is not one of a record")
    return packet, str(parsed.get("name", ""))


@lru_cache(64)
def _parsed(schema: str) -> Any:
    import fastavro

    return fastavro.parse_schema(json.loads(schema))


def _sniff(source: Source) -> bool:
    return source.head.startswith(MAGIC) and f'"{RECORD}"'.encode() in source.head


def _items(source: Source) -> list[Item]:
    count = count_records(source)
    if not count:
        raise Unusable(f"{source.file.source}: no message")
    return [
        Item(file=source.file, format=NAME, start=i, stop=min(i + MESSAGES, count)) for i in range(0, count, MESSAGES)
    ]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    header = metadata(source).items()
    schemas = {int(key.removeprefix(_SCHEMA_KEY)): text for key, text in header if key.startswith(_SCHEMA_KEY)}
    for _, row, _ in read_records(source, item.start, item.stop):
        message = Message(**row)
        yield Entry(message.offset, partial(_load, message, schemas, source.file.source))


def _load(message: Message, schemas: Mapping[int, str], source: str) -> LightCurve:
    packet, schema = decode(message, schemas)
    return load_packet(packet, schema, source, message.offset)


FORMAT = Format(
    name=NAME,
    record=LightCurve,
    description="Messages of an alert stream as `nightcat alerts` keeps them: alert packets with or without their "
    "schemas; `row` is the offset in the partition",
    sniff=_sniff,
    items=_items,
    entries=_entries,
)
