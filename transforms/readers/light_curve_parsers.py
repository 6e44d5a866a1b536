"""A table of named columns in memory, and how each kind of file becomes one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from transforms.attempt import Unreadable
from transforms.readers.format import Source
from transforms.readers.text_spectra import header_line

_NULLS = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "-", "--", "N/A", "inf", "-inf"]
_CARDS = (("ra", "RA"), ("dec", "DEC"), ("object", "OBJECT"), ("band", "FILTER"))


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table in memory.

    Parameters
    ----------
    arrow : pyarrow.Table
        The columns.
    units : mapping of str to str
        Unit of a column, where the file states it.
    meta : mapping
        ``ra``, ``dec``, ``object``, ``band`` of the whole file, where it states them.
    """

    arrow: pa.Table
    units: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Column names."""
        return self.arrow.column_names

    @property
    def n_row(self) -> int:
        """Number of rows."""
        return self.arrow.num_rows

    def is_list(self, name: str) -> bool:
        """Whether the cells of a column are lists.

        Parameters
        ----------
        name : str
            Column.

        Returns
        -------
        bool
            True for list columns.
        """
        kind = self.arrow.schema.field(name).type
        return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)

    def single_precision(self, name: str) -> bool:
        """Whether a column is stored as 32-bit floats.

        Parameters
        ----------
        name : str
            Column.

        Returns
        -------
        bool
            True for float32.
        """
        return pa.types.is_float32(self.arrow.schema.field(name).type)

    def cell(self, name: str, row: int) -> Any:
        """One cell.

        Parameters
        ----------
        name : str
            Column.
        row : int
            Row.

        Returns
        -------
        object
            A Python value; an empty list for a null in a list column.
        """
        value = self.arrow.column(name)[row].as_py()
        return [] if value is None and self.is_list(name) else value

    def numbers(self, name: str, rows: Any) -> np.ndarray:
        """Cells of a numeric column.

        Parameters
        ----------
        name : str
            Column.
        rows : slice or ndarray of int
            Rows.

        Returns
        -------
        ndarray of float64
            NaN where a cell is null.

        Raises
        ------
        Unreadable
            Where the column holds text.
        """
        part = _rows(self.arrow.column(name), rows)
        try:
            return np.asarray(part.cast(pa.float64()).to_numpy(), np.float64)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Unreadable(f"column {name!r} is not a column of numbers: {error}") from error

    def strings(self, name: str, rows: Any) -> np.ndarray:
        """Cells as text.

        Parameters
        ----------
        name : str
            Column.
        rows : slice or ndarray of int
            Rows.

        Returns
        -------
        ndarray of str
            Empty where a cell is null.
        """
        return np.array(["" if v is None else str(v) for v in _rows(self.arrow.column(name), rows).to_pylist()], str)


def _rows(column: pa.ChunkedArray, rows: Any) -> pa.ChunkedArray:
    if isinstance(rows, slice):
        start, stop, _ = rows.indices(len(column))
        return column.slice(start, stop - start)
    return column.take(pa.array(rows))


def read_bytes(source: Source, kind: str) -> Table:
    """Parse a whole file that is no FITS.

    Parameters
    ----------
    source : Source
        The file.
    kind : str
        ``"parquet"``, ``"ecsv"``, ``"votable"`` or ``"csv"``.

    Returns
    -------
    Table
        All of it.

    Raises
    ------
    Unreadable
        Where the bytes are damaged.
    """
    if kind == "parquet":
        try:
            arrow = pyarrow.parquet.read_table(source.stream())
        except (pa.ArrowInvalid, OSError) as error:
            raise Unreadable(f"not readable as Parquet: {source.file.source}: {error}") from error
        units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in arrow.schema}
        return Table(arrow, units)
    if kind in ("ecsv", "votable"):
        return _from_astropy(source, kind)
    return _from_csv(source)


def _from_csv(source: Source) -> Table:
    text = source.text
    names, delimiter, skip = header_line(text)
    lines = [line for line in text.split("\n")[skip:] if line.strip() and not line.lstrip().startswith("#")]
    if delimiter == " ":
        lines, delimiter = [",".join(line.split()) for line in lines], ","
    if lines and all(line.rstrip().endswith(delimiter) for line in lines) and names[-1]:
        lines = [line.rstrip()[:-1] for line in lines]
    if not lines:
        return Table(pa.table({name: pa.array([], pa.float64()) for name in names}))
    body = "\n".join([delimiter.join(f'"{name}"' for name in names), *lines])
    try:
        return Table(
            pyarrow.csv.read_csv(
                io.BytesIO(body.encode()),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
                convert_options=pyarrow.csv.ConvertOptions(
                    null_values=_NULLS,
                    strings_can_be_null=True,
                ),
            )
        )
    except pa.ArrowInvalid as error:
        raise Unreadable(f"not a table of {len(names)} columns ({', '.join(names)}): {error}") from error


def _from_astropy(source: Source, kind: str) -> Table:
    from astropy.table import Table as AstropyTable

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "ecsv":
                table = AstropyTable.read(source.text, format="ascii.ecsv")
            else:
                table = AstropyTable.read(io.BytesIO(source.content), format="votable")
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise Unreadable(f"not readable as {kind}: {source.file.source}: {error}") from error
    return _from_columns(table, {k.lower(): v for k, v in table.meta.items() if isinstance(v, (str, int, float))})


def _from_columns(table: Any, meta: Mapping[str, Any]) -> Table:
    arrays, units = {}, {}
    for name in table.colnames:
        column = table[name]
        if hasattr(column, "mjd"):  # a Time column
            arrays[name], units[name] = pa.array(np.asarray(column.mjd, np.float64)), "mjd"
            continue
        if column.ndim != 1:
            continue
        values = np.ma.asarray(column)
        filled = values.filled(np.nan) if values.dtype.kind == "f" else np.asarray(values.data)
        arrays[name] = pa.array(
            [str(v) for v in filled] if filled.dtype.kind in "OSU" else filled.astype(filled.dtype.newbyteorder("="))
        )
        units[name] = str(column.unit or "")
    kept = {name: meta[name] for name in ("ra", "dec", "object", "band") if name in meta}
    return Table(pa.table(arrays), units, kept)


def read_fits(source: Source, index: int) -> Table:
    """Read one table extension.

    Parameters
    ----------
    source : Source
        The file.
    index : int
        Extension.

    Returns
    -------
    Table
        Columns of one value a row; others are left out.

    Raises
    ------
    Unreadable
        Where the extension is damaged.
    """
    from astropy.table import Table as AstropyTable

    hdu = source.hdus[index]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = AstropyTable(hdu.data)
            for column in hdu.columns:
                if column.name in table.colnames and column.unit:
                    table[column.name].meta["unit"] = column.unit
    except (ValueError, TypeError, OSError, IndexError) as error:
        raise Unreadable(f"table in extension {index} of {source.file.source} is damaged: {error}") from error
    header = {**dict(source.hdus[0].header), **dict(hdu.header)}
    meta = {key: header[card] for key, card in _CARDS if isinstance(header.get(card), (int, float, str))}
    found = _from_columns(table, meta)
    return Table(found.arrow, {c.name: str(c.unit or "") for c in hdu.columns}, found.meta)
