"""Rows to staged Parquet files: one file for each table and pixel, and nothing visible before ``pipeline.commit``.

Rows are buffered, split by pixel and spilled to a shard in the staging folder; only references to parts of shards are
grouped, so that the memory of a local runner, which holds a whole shuffle, does not grow with the night.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pipeline.assemble import assemble
from pipeline.catalog import REJECTS, StagedFile, data_path, to_table
from pipeline.footers import arrow_schema
from pipeline.sky import place
from pipeline.tables import table_columns
from transforms.columns import REJECTS as REJECT_COLUMNS
from transforms.columns import Column
from transforms.records import Reject
from transforms.store import Store

BUFFER_ROWS = 1000  #: Rows that one worker holds before they become a shard.
SHARDS = ".shards"

Key = tuple[str, str, int]  #: Table, kind, pixel.
Part = tuple[str, int, int]  #: Shard, first byte, end.
Tables = Mapping[str, tuple[Column, ...]]


@cache
def _columns(table: str) -> tuple[Column, ...]:
    return REJECT_COLUMNS if table == REJECTS else table_columns(table)


def pack(table: pa.Table) -> bytes:
    """Make compact bytes of a few rows; the schema stays behind.

    Parameters
    ----------
    table : pyarrow.Table
        Rows.

    Returns
    -------
    bytes
        ``<length>:<zstd of an Arrow record batch>``.
    """
    (batch,) = table.combine_chunks().to_batches(max_chunksize=None)
    raw = batch.serialize()
    return b"%d:" % raw.size + pa.compress(raw, codec="zstd", asbytes=True)


def unpack(data: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """Undo ``pack``.

    Parameters
    ----------
    data : bytes
        From ``pack``.
    schema : pyarrow.Schema
        Of the table.

    Returns
    -------
    pyarrow.RecordBatch
        The rows.
    """
    size, _, body = data.partition(b":")
    return pa.ipc.read_record_batch(pa.decompress(body, decompressed_size=int(size), codec="zstd"), schema)


class PlaceFn(beam.DoFn):
    """Rows or rejects to references of parts of shards, by ``(table, kind, pixel)``.

    Parameters
    ----------
    staging : str
        Folder of the run.
    order : int
        Of the catalog's pixels.
    night, version : str
        Columns of the rejects.
    tables : mapping of str to tuple of Column
        Columns of tables whose columns do not follow from their name.
    """

    def __init__(self, staging: str, order: int, night: str, version: str, tables: Tables) -> None:
        self.staging = staging
        self.order = order
        self.constants = {"night": night, "package_version": version}
        self.tables = dict(tables)

    def start_bundle(self) -> None:
        """Begin with empty buffers."""
        self._rows: dict[str, list[Mapping[str, Any]]] = {}

    def process(self, element: Mapping[str, Any] | Reject) -> Iterator[tuple[Key, Part]]:
        """Take one row or reject; spill its table's buffer when it is full.

        Parameters
        ----------
        element : mapping or Reject
            A row by column name, whose ``task`` names its table; or what was refused.

        Yields
        ------
        tuple of Key and Part
            References.
        """
        if isinstance(element, Reject):
            table, row = REJECTS, asdict(element) | self.constants
        else:
            table, row = element["task"], dict(element)
        rows = self._rows.setdefault(table, [])
        rows.append(row)
        if len(rows) >= BUFFER_ROWS:
            yield from self._spill(table)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Empty the buffers.

        Yields
        ------
        WindowedValue
            References in the global window: a night has no other.
        """
        for table in sorted(self._rows):
            for pair in self._spill(table):
                yield WindowedValue(pair, MIN_TIMESTAMP, (GlobalWindow(),))

    def _spill(self, name: str) -> Iterator[tuple[Key, Part]]:
        rows = self._rows.pop(name)
        table = to_table(rows, self.tables.get(name) or _columns(name), name)
        split = [(REJECTS, -1, table)] if name == REJECTS else list(place(table, self.order))
        parts = [pack(part) for _, _, part in split]
        shard = b"".join(parts)
        path = f"{SHARDS}/{hashlib.sha256(shard).hexdigest()}"
        Store(self.staging).write(path, shard, durable=False)
        end = 0
        for (kind, pixel, _), data in zip(split, parts, strict=True):
            start, end = end, end + len(data)
            yield (name, kind, pixel), (path, start, end)


class WriteFn(beam.DoFn):
    """All parts of one table, kind and pixel to one staged file.

    Parameters
    ----------
    staging : str
        Folder of the run.
    run_id : str
        The run.
    order : int
        Of the catalog's pixels.
    tables : mapping of str to tuple of Column
        As in ``PlaceFn``.
    """

    def __init__(self, staging: str, run_id: str, order: int, tables: Tables) -> None:
        self.staging = staging
        self.run_id = run_id
        self.order = order
        self.tables = dict(tables)

    def process(self, group: tuple[Key, Iterable[Part]]) -> Iterator[StagedFile]:
        """Write the file of one group.

        Parameters
        ----------
        group : tuple of Key and iterable of Part
            In any order.

        Yields
        ------
        StagedFile
            What was written; nothing for an empty group, which some runners make.
        """
        key, parts = group
        columns = self.tables.get(key[0]) or _columns(key[0])
        store, schema = Store(self.staging), arrow_schema(key[0], columns)
        path = data_path(*key[:2], self.order, key[2], self.run_id)
        staged = assemble(store, path, key, [partial(_read, store, part, schema) for part in parts], columns)
        if staged is not None:
            yield staged


def _read(store: Store, part: Part, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([unpack(store.read(*part), schema)])


@dataclass
class StageTables(beam.PTransform):
    """Rows and rejects to staged files.

    Parameters
    ----------
    staging : str
        Folder of the run, ``pipeline.commit.staging_folder``.
    run_id : str
        The run.
    order : int
        HEALPix order of the catalog's pixels.
    night, version : str
        Columns of the rejects.
    tables : mapping of str to tuple of Column
        Columns of tables whose columns do not follow from their name.
    """

    staging: str
    run_id: str
    order: int
    night: str
    version: str
    tables: Tables = field(default_factory=dict)

    def expand(self, inputs: Mapping[str, beam.PCollection]) -> beam.PCollection:
        """Attach the step.

        Parameters
        ----------
        inputs : mapping of str to PCollection
            ``rows`` (dicts whose ``task`` names the table) and ``rejects`` (``Reject``).

        Returns
        -------
        PCollection of StagedFile
            One for each file.
        """
        pair = tuple[tuple[str, str, int], tuple[str, int, int]]
        step = PlaceFn(self.staging, self.order, self.night, self.version, self.tables)
        # spilled before they are flattened: a local runner holds what goes through a Flatten
        rows = inputs["rows"] | "PlaceRows" >> beam.ParDo(step).with_output_types(pair)
        rejects = inputs["rejects"] | "PlaceRejects" >> beam.ParDo(step).with_output_types(pair)
        return (
            (rows, rejects)
            | "AllParts" >> beam.Flatten()
            | "GroupByPixel" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(WriteFn(self.staging, self.run_id, self.order, self.tables))
        )
