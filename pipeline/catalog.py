"""Rows to the bytes of a catalog file, and the place where that file lies.

::

    <table>/collection.properties                     what lsdb.open_catalog(<table>) reads
    <table>/<table>/dataset/Norder=K/Dir=D/Npix=N/<run_id>.parquet
    <table>/<table>_margin_10arcs/dataset/Norder=K/Dir=D/Npix=N/<run_id>.parquet
    <table>/unplaced/<run_id>.parquet                 rows whose object has no known position
    rejects/<run_id>.parquet
    drift/<night>.parquet                             how each night differs from the reference (pipeline.drift_table)
    _runs/<run_id>.json                               the manifest, written last
    _runs/<run_id>.inputs.parquet                     each input file and what became of it
    .staging/<run_id>/                                files of a run that is not committed yet
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.footers import STRING_WIDTH, arrow_schema, votable_keys
from transforms.columns import FLOAT32, FLOAT32_LIST, FLOAT64, STRING, Column

PRIMARY, MARGIN, UNPLACED, REJECTS = "primary", "margin", "unplaced", "rejects"
DRIFT = "drift"
RUNS, STAGING = "_runs", ".staging"
MARGIN_ARCSEC = 10
ROW_GROUP = 16_384  #: Rows of each row group of a file but its last.
SORT_KEYS = ("_healpix_29", "object_id", "source", "hdu", "row")
INPUTS, EXPLANATIONS = "inputs", "explanations"
_FLOATS = (FLOAT32, FLOAT64, FLOAT32_LIST)
_SORT = {
    REJECTS: ("source", "hdu", "row", "stage", "object_id", "error", "reason", "url"),
    INPUTS: ("source", "url"),
    EXPLANATIONS: ("source", "hdu", "row", "target", "array", "part", "position", "position_y"),
    DRIFT: ("table_name", "kind", "column_name", "window"),
}


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class StagedFile:
    """One Parquet file of a run.

    Parameters
    ----------
    path : str
        Relative to the catalog's root, where it lies (or will lie once committed).
    table : str
        Name of the table; ``"rejects"`` for rejects.
    kind : str
        ``"primary"``, ``"margin"``, ``"unplaced"`` or ``"rejects"``.
    pixel : int
        HEALPix pixel at the catalog's order; -1 where the kind has none.
    rows : int
        Number of rows.
    size : int
        Bytes.
    sha256 : str
        Digest of the bytes.
    """

    path: str
    table: str
    kind: str
    pixel: int
    rows: int
    size: int
    sha256: str

    def plain(self) -> dict[str, Any]:
        """The file as plain values.

        Returns
        -------
        dict
            For JSON.
        """
        return asdict(self)


def hats_folder(table: str, kind: str) -> str:
    """Folder of a table's HATS catalog or of its margin.

    Parameters
    ----------
    table : str
        Name of the table.
    kind : str
        ``"primary"`` or ``"margin"``.

    Returns
    -------
    str
        Relative to the root.
    """
    return f"{table}/{table}" if kind == PRIMARY else f"{table}/{table}_margin_{MARGIN_ARCSEC}arcs"


def data_path(table: str, kind: str, order: int, pixel: int, run_id: str) -> str:
    """Where a file lies: a pure function of run, table and pixel.

    Parameters
    ----------
    table, kind : str
        As in ``StagedFile``.
    order, pixel : int
        HEALPix order of the catalog, and the pixel.
    run_id : str
        Run that makes the file.

    Returns
    -------
    str
        Relative to the root.
    """
    if kind == REJECTS:
        return f"{REJECTS}/{run_id}.parquet"
    if kind == UNPLACED:
        return f"{table}/{UNPLACED}/{run_id}.parquet"
    folder = f"{hats_folder(table, kind)}/dataset/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}"
    return f"{folder}/{run_id}.parquet"


def to_table(rows: Sequence[Mapping[str, Any]], columns: tuple[Column, ...], name: str) -> pa.Table:
    """Make an Arrow table of rows; a missing key is a null.

    Parameters
    ----------
    rows : sequence of mapping
        By column name.
    columns : tuple of Column
        Of the table.
    name : str
        Of the table, for messages.

    Returns
    -------
    pyarrow.Table
        With exactly the table's columns.

    Raises
    ------
    ValueError
        For a key that is no column, a value of the wrong type, a number that is not finite, a null where none may be.
    """
    schema = arrow_schema(name, columns)
    known = set(schema.names)
    for row in rows:
        if not row.keys() <= known:
            raise ValueError(f"table {name!r} has no column {sorted(row.keys() - known)[0]!r}; {_of(row)}")
    arrays = []
    for column, field in zip(columns, schema, strict=True):
        values = [row.get(column.name) for row in rows]
        try:
            array = pa.array(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError) as error:
            row, value = _culprit(rows, column.name, field.type)
            raise ValueError(f"column {column.name!r} of {name!r} cannot hold {value!r}; {_of(row)}") from error
        numbers = array.flatten() if column.type == FLOAT32_LIST else array
        if column.type in _FLOATS and not pc.all(pc.is_finite(numbers), min_count=0).as_py():
            index = _first_not_finite(array)
            raise ValueError(
                f"column {column.name!r} of {name!r} is {values[index]!r}, which is not finite: "
                f"missing is null; {_of(rows[index])}"
            )
        if not column.nullable and array.null_count:
            raise ValueError(f"column {column.name!r} of {name!r} is null; {_of(rows[values.index(None)])}")
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def _first_not_finite(array: pa.Array) -> int:
    values = array.to_pylist()
    return next(i for i, value in enumerate(values) if value is not None and not np.isfinite(value).all())


def _culprit(rows: Sequence[Mapping[str, Any]], name: str, kind: pa.DataType) -> tuple[Mapping[str, Any], Any]:
    for row in rows:
        try:
            pa.array([row.get(name)], kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError):
            return row, row.get(name)
    return {}, None


def _of(row: Mapping[str, Any]) -> str:
    return f"row {row.get('row')} of hdu {row.get('hdu')!r} of {row.get('source')!r}"


def encode(table: pa.Table, columns: tuple[Column, ...], name: str) -> bytes:
    """Bytes of a catalog file: sorted, with the table's footer, the same whatever the order of the rows.

    Parameters
    ----------
    table : pyarrow.Table
        Rows with exactly these columns.
    columns : tuple of Column
        Of the table.
    name : str
        Of the table.

    Returns
    -------
    bytes
        A Parquet file.
    """
    sink = pa.BufferOutputStream()
    with open_writer(sink, columns, name, string_widths(table, columns)) as writer:
        writer.write_table(sort_rows(table, name).cast(writer.schema), row_group_size=ROW_GROUP)
    return bytes(sink.getvalue().to_pybytes())


def open_writer(sink: Any, columns: tuple[Column, ...], name: str, widths: tuple[int, ...]) -> pq.ParquetWriter:
    """Begin a catalog file: zstd, with statistics and the table's footer.

    Parameters
    ----------
    sink : file object
        Where the bytes go.
    columns : tuple of Column
        Of the table.
    name : str
        Of the table.
    widths : tuple of int
        Bytes of each string column, from ``string_widths``.

    Returns
    -------
    pyarrow.parquet.ParquetWriter
        Takes sorted rows, cast to its schema, in row groups of ``ROW_GROUP``.
    """
    writer = pq.ParquetWriter(
        sink,
        arrow_schema(name, columns, widths),
        version="2.6",
        compression="zstd",
        use_dictionary=[column.name for column in columns if column.type == STRING],
    )
    writer.add_key_value_metadata(votable_keys(name, columns, widths))
    return writer


def sort_keys(name: str) -> list[tuple[str, str]]:
    """What the rows of a table are sorted by.

    Parameters
    ----------
    name : str
        Of the table.

    Returns
    -------
    list of tuple of str
        As Arrow wants it.
    """
    return [(key, "ascending") for key in _SORT.get(name, SORT_KEYS)]


def sort_rows(table: pa.Table, name: str) -> pa.Table:
    """Sort rows as they stand in the files: by place, then by what tells them apart.

    Parameters
    ----------
    table : pyarrow.Table
        Rows.
    name : str
        Of the table.

    Returns
    -------
    pyarrow.Table
        Sorted; nulls last.
    """
    return table.sort_by(sort_keys(name))


def string_widths(table: pa.Table, columns: tuple[Column, ...]) -> tuple[int, ...]:
    """Bytes of each string column: 64, or the next power of two where a value is longer (astropy cuts at it).

    Parameters
    ----------
    table : pyarrow.Table
        Rows.
    columns : tuple of Column
        Of the table.

    Returns
    -------
    tuple of int
        One for each string column, in order.
    """
    widths = []
    for column in columns:
        if column.type == STRING:
            longest = pc.max(pc.binary_length(table[column.name])).as_py() or 0
            widths.append(max(STRING_WIDTH, 1 << max(longest - 1, 0).bit_length()))
    return tuple(widths)


def decode(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of a catalog file.

    Parameters
    ----------
    data : bytes
        Of the file.
    columns : sequence of str, optional
        Those to read; all where not given.

    Returns
    -------
    pyarrow.Table
        In the order of the file.
    """
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=None if columns is None else list(columns))


def conform(table: pa.Table, columns: tuple[Column, ...], name: str) -> pa.Table:
    """Give rows of another version the columns of this one; those that they lack are null.

    Parameters
    ----------
    table : pyarrow.Table
        Rows.
    columns : tuple of Column
        Wanted.
    name : str
        Of the table.

    Returns
    -------
    pyarrow.Table
        With exactly these columns.
    """
    schema = arrow_schema(name, columns)
    arrays = [
        table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
