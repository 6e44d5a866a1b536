"""Rows to staged Parquet files: small compressed batches are grouped by table and pixel, one file comes of each group.

What is grouped is bytes of a few hundred rows, so the shuffle holds the night in a compact form; no file becomes
visible before ``pipeline.commit``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pipeline.catalog import REJECTS, StagedFile, data_path, encode, staged_file, to_table
from pipeline.footers import arrow_schema
from pipeline.sky import place
from pipeline.store import Store
from pipeline.tables import table_columns
from transforms.columns import REJECTS as REJECT_COLUMNS
from transforms.columns import Column
from transforms.records import Reject

BUFFER_ROWS = 1000  #: Rows that one worker holds before they become a batch.

Key = tuple[str, str, int]
Tables = Mapping[str, tuple[Column, ...]]


@cache
def _columns(table: str) -> tuple[Column, ...]:
    return table_columns(table)


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
    """Rows to packed batches by ``(table, kind, pixel)``.

    Parameters
    ----------
    order : int
        Of the catalog's pixels.
    tables : mapping of str to tuple of Column, or None
        Columns of the tables; those of the tasks where None.
    """

    def __init__(self, order: int, tables: Tables | None = None) -> None:
        self.order = order
        self.tables = tables

    def start_bundle(self) -> None:
        """Begin with empty buffers."""
        self._rows: dict[str, list[Mapping[str, Any]]] = {}

    def process(self, row: Mapping[str, Any]) -> Iterator[tuple[Key, bytes]]:
        """Take one row; yield batches when its buffer is full.

        Parameters
        ----------
        row : mapping
            By column name; ``task`` names its table.

        Yields
        ------
        tuple of Key and bytes
            Packed batches.
        """
        rows = self._rows.setdefault(row["task"], [])
        rows.append(row)
        if len(rows) >= BUFFER_ROWS:
            yield from self._flush(row["task"])

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Empty the buffers.

        Yields
        ------
        WindowedValue
            Packed batches in the global window: a night has no other.
        """
        for table in sorted(self._rows):
            for pair in self._flush(table):
                yield WindowedValue(pair, MIN_TIMESTAMP, (GlobalWindow(),))

    def _flush(self, table: str) -> Iterator[tuple[Key, bytes]]:
        rows = self._rows.pop(table, [])
        if rows:
            columns = _columns(table) if self.tables is None else self.tables[table]
            for kind, pixel, part in place(to_table(rows, columns, table), self.order):
                yield (table, kind, pixel), pack(part)


class RefuseFn(beam.DoFn):
    """Rejects to packed rows of the rejects table.

    Parameters
    ----------
    night, version : str
        Columns that are the same for all.
    """

    def __init__(self, night: str, version: str) -> None:
        self.night = night
        self.version = version

    def process(self, reject: Reject) -> Iterator[tuple[Key, bytes]]:
        """Make a row of one reject.

        Parameters
        ----------
        reject : Reject
            What was refused.

        Yields
        ------
        tuple of Key and bytes
            One packed row.
        """
        row = {**asdict(reject), "night": self.night, "package_version": self.version}
        yield (REJECTS, REJECTS, -1), pack(to_table([row], REJECT_COLUMNS, REJECTS))


class WriteFn(beam.DoFn):
    """One group of batches to one staged file.

    Parameters
    ----------
    staging : str
        Folder of the run.
    run_id : str
        The run.
    order : int
        Of the catalog's pixels.
    tables : mapping of str to tuple of Column, or None
        As in ``PlaceFn``.
    """

    def __init__(self, staging: str, run_id: str, order: int, tables: Tables | None = None) -> None:
        self.staging = staging
        self.run_id = run_id
        self.order = order
        self.tables = tables

    def process(self, group: tuple[Key, Iterable[bytes]]) -> Iterator[StagedFile]:
        """Write the file of one group.

        Parameters
        ----------
        group : tuple of Key and iterable of bytes
            All batches of one table, kind and pixel, in any order.

        Yields
        ------
        StagedFile
            What was written; nothing for an empty group, which some runners make.
        """
        (table, kind, pixel), batches = group
        columns = REJECT_COLUMNS if kind == REJECTS else _columns(table) if self.tables is None else self.tables[table]
        schema = arrow_schema(table, columns)
        rows = pa.Table.from_batches([unpack(data, schema) for data in batches], schema=schema)
        if not rows.num_rows:
            return
        path = data_path(table, kind, self.order, pixel, self.run_id)
        data = encode(rows, columns, table)
        Store(self.staging).write(path, data, durable=False)  # the commit brings all of them onto the disk
        yield staged_file(data, path, table, kind, pixel, rows.num_rows)


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
    tables : mapping of str to tuple of Column, or None
        Columns of the tables; those of the tasks where None.
    """

    staging: str
    run_id: str
    order: int
    night: str
    version: str
    tables: Tables | None = None

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
        pair = tuple[tuple[str, str, int], bytes]
        rows = inputs["rows"] | "Place" >> beam.ParDo(PlaceFn(self.order, self.tables)).with_output_types(pair)
        refused = inputs["rejects"] | "Refuse" >> beam.ParDo(RefuseFn(self.night, self.version)).with_output_types(pair)
        return (
            (rows, refused)
            | "AllRows" >> beam.Flatten()
            | "GroupByPixel" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(WriteFn(self.staging, self.run_id, self.order, self.tables))
        )
