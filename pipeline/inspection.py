"""Checks of one data file and of one table's margins, for ``pipeline.verify``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalog import MARGIN, PRIMARY, REJECTS, UNPLACED, StagedFile, conform, sort_rows, string_widths
from pipeline.footers import arrow_schema, columns_of, votable_keys
from pipeline.hats import CatalogError, known_columns
from pipeline.manifest import Run
from pipeline.sky import healpix_29, margins, pixels
from transforms.columns import Column
from transforms.store import Store


class Fault(NamedTuple):
    """One thing that is wrong.

    Parameters
    ----------
    what : str
        Kind of fault, one word.
    where : str
        File or table.
    sentence : str
        What is wrong, with the value.
    """

    what: str
    where: str
    sentence: str


def check_file(store: Store, file: StagedFile, run: Run) -> tuple[pa.Table | None, list[Fault]]:
    """Check the bytes, the schema and the rows of one file.

    Parameters
    ----------
    store : Store
        The catalog.
    file : StagedFile
        What the manifest says of it.
    run : Run
        The run that made it.

    Returns
    -------
    table : pyarrow.Table or None
        Its rows; None where it cannot be trusted.
    faults : list of Fault
        What is wrong.
    """
    try:
        data = store.read(file.path)
    except FileNotFoundError:
        return None, []  # the listing has said so
    if hashlib.sha256(data).hexdigest() != file.sha256:
        return None, [Fault("digest", file.path, f"has {len(data)} bytes that are not those of the manifest")]
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data))
        table = parquet.read()
        columns = columns_of(table.schema)
    except ValueError as error:  # Arrow's own errors about bad files too
        return None, [Fault("schema", file.path, str(error))]
    faults = []
    if table.num_rows != file.rows:
        faults.append(Fault("count", file.path, f"has {table.num_rows} rows, the manifest says {file.rows}"))
    faults += _schema(store, file, run, columns)
    faults += _footer(file, table, columns, parquet.metadata.metadata)
    faults += _values(file, run, table)
    if file.kind in (PRIMARY, MARGIN):
        faults += _places(file, run.order, table)
    elif file.kind == UNPLACED:
        for name in ("ra", "dec", "_healpix_29"):
            if table[name].null_count != table.num_rows:
                faults.append(Fault("place", file.path, f"holds rows whose {name} is not null"))
    return table, faults


def _schema(store: Store, file: StagedFile, run: Run, columns: Sequence[Column]) -> Iterator[Fault]:
    known: dict[str, Column] = {column.name: column for column in run.columns.get(file.table, ())}
    common = known
    if file.kind != REJECTS:
        with suppress(CatalogError):  # a damaged common schema is a fault of its own
            common = {column.name: column for column in known_columns(store, file.table)}
    for column in columns:
        if known.get(column.name) != column:
            yield Fault("schema", file.path, f"column {column.name!r} is not as the manifest describes it")
        there = common.get(column.name)
        for what in ("type", "unit", "ucd", "nullable"):
            if there is None or getattr(there, what) != getattr(column, what):
                yield Fault("schema", file.path, f"{what} of column {column.name!r} is not that of the table")
                break


def _footer(
    file: StagedFile, table: pa.Table, columns: tuple[Column, ...], footer: Mapping[bytes, bytes]
) -> Iterator[Fault]:
    widths = string_widths(table, columns)
    wanted = dict(arrow_schema(file.table, columns, widths).metadata)
    wanted.update({k.encode(): v.encode() for k, v in votable_keys(file.table, columns, widths).items()})
    for key, value in wanted.items():
        if footer.get(key) != value:
            yield Fault("footer", file.path, f"{key.decode()!r} does not describe the columns")


def _values(file: StagedFile, run: Run, table: pa.Table) -> Iterator[Fault]:
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            yield Fault("value", file.path, f"column {field.name!r} holds a number that is not finite")
        if not field.nullable and column.null_count:
            yield Fault("value", file.path, f"column {field.name!r} holds a null")
    if pc.any(pc.not_equal(table["night"], run.night)).as_py():
        yield Fault("value", file.path, f"holds rows of another night than {run.night}")
    if not sort_rows(table, file.table).equals(table):
        yield Fault("sorting", file.path, "rows are not sorted")


def _places(file: StagedFile, order: int, table: pa.Table) -> Iterator[Fault]:
    if any(table[name].null_count for name in ("ra", "dec", "_healpix_29")):
        yield Fault("place", file.path, "holds rows without position")
        return
    index = table["_healpix_29"].to_numpy()
    if not np.array_equal(index, healpix_29(table["ra"].to_numpy(), table["dec"].to_numpy())):
        yield Fault("place", file.path, "_healpix_29 is not the index of ra and dec")
    inside = pixels(index, order) == file.pixel
    if file.kind == PRIMARY and not inside.all():
        yield Fault("place", file.path, f"holds rows that lie outside of pixel {file.pixel}")
    if file.kind == MARGIN and inside.any():
        yield Fault("place", file.path, f"holds rows of pixel {file.pixel} itself")


def margin_rows(table: pa.Table, order: int) -> dict[int, pa.Table]:
    """Rows of one pixel that belong to the margins of others.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of a primary file.
    order : int
        Of the catalog's pixels.

    Returns
    -------
    dict of int to pyarrow.Table
        By the pixel whose margin they belong to.
    """
    rows, pixel = margins(table["_healpix_29"].to_numpy(), order)
    return {one: table.take(pa.array(rows[pixel == one])) for one in np.unique(pixel).tolist()}


def check_margins(
    run: Run, name: str, wanted: Mapping[int, Sequence[pa.Table]], found: Mapping[int, pa.Table]
) -> Iterator[Fault]:
    """Compare the margin files of a table with the rows that belong there.

    Parameters
    ----------
    run : Run
        The run.
    name : str
        Of the table.
    wanted : mapping of int to sequence of pyarrow.Table
        By pixel, from ``margin_rows`` of all primary files.
    found : mapping of int to pyarrow.Table
        Rows of its margin files, by pixel.

    Yields
    ------
    Fault
        For each pixel whose margin is not complete, or holds what it should not.
    """
    for pixel in sorted({*wanted, *found}):
        have = found.get(pixel)
        if have is None:
            yield Fault("margin", name, f"margin of pixel {pixel} is missing in run {run.run_id}")
            continue
        columns = columns_of(have.schema)
        parts = [conform(table, columns, name) for table in wanted.get(pixel, ())]
        expected = pa.concat_tables([conform(have.slice(0, 0), columns, name), *parts])
        if not sort_rows(expected, name).equals(have):
            yield Fault("margin", name, f"margin of pixel {pixel} is not that of the rows of run {run.run_id}")
