"""Avro containers, a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transforms.attempt import Unreadable
from transforms.readers.format import Source

MAGIC = b"Obj\x01"


def _guarded(source: Source, some: Iterable[Any]) -> Iterator[Any]:
    """What a library reads from a container; what is wrong with it is told with the name of the file."""
    try:
        yield from some
    except Exception as error:  # it raises whatever it stumbles over in damaged bytes
        raise _damaged(source, error) from error


def _damaged(source: Source, error: Exception) -> Unreadable:
    return Unreadable(f"{source.file.source}: the Avro container is damaged: {str(error) or type(error).__name__}")


def _opened(source: Source, stream: Any) -> Iterator[Any]:
    import fastavro

    def read() -> Iterator[Any]:
        yield from fastavro.block_reader(stream)

    return _guarded(source, read())


def metadata(source: Source) -> dict[str, str]:
    """What the header of a container says beside its schema.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    dict of str to str
        By key.

    Raises
    ------
    Unreadable
        Where it is damaged.
    """
    import fastavro

    with source.stream() as stream:
        opened: Any = stream
        try:
            return dict(fastavro.block_reader(opened).metadata)
        except Exception as error:  # as below
            raise _damaged(source, error) from error


def count_records(source: Source) -> int:
    """How many records a container holds.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    int
        As its blocks say.

    Raises
    ------
    Unreadable
        Where it is damaged.
    """
    with source.stream() as stream:
        return sum(block.num_records for block in _opened(source, stream))


def read_records(source: Source, start: int, stop: int) -> Iterator[tuple[int, Any, Any]]:
    """Some records of a container; blocks before them stay packed.

    Parameters
    ----------
    source : Source
        The file.
    start, stop : int
        Which.

    Yields
    ------
    row, record, block : int, object, fastavro block
        The record's number, the record, and what its block says of schema and header.

    Raises
    ------
    Unreadable
        Where it is damaged.
    """
    row = 0
    with source.stream() as stream:
        for block in _opened(source, stream):
            if row + block.num_records <= start:
                row += block.num_records
                continue
            for record in _guarded(source, block):
                if row >= start:
                    yield row, record, block
                row += 1
                if row == stop:
                    return


def schema_name(block: Any) -> str:
    """Name of the schema that a block was written with.

    Parameters
    ----------
    block : fastavro block
        From ``read_records``.

    Returns
    -------
    str
        With its name space; empty where it has none.
    """
    schema = block.writer_schema
    return str(schema.get("name", "")) if isinstance(schema, Mapping) else ""
