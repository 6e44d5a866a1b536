"""A table of named columns in memory, and how files of FITS, Parquet, ECSV and VOTable become one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from transforms.attempt import Unreadable
from transforms.readers import light_curve_cells as cells
from transforms.readers.format import Source
from transforms.readers.light_curve_columns import unit_in_name

_POSITIONS = (("RA", "DEC"), ("RA_OBJ", "DEC_OBJ"), ("RA_TARG", "DEC_TARG"))
_META = ("ra", "dec", "object", "band")


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
        ``ra``, ``dec`` (degrees or sexagesimal text), ``object``, ``band`` of the whole file, and ``mjdref``, the MJD
        of time zero, where it states them.
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

    def is_text(self, name: str) -> bool:
        """Whether a column is stored as text.

        Parameters
        ----------
        name : str
            Column.

        Returns
        -------
        bool
            True for strings.
        """
        kind = self.arrow.schema.field(name).type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)

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
            NaN where a cell is null, an upper limit or, in a column of which most are numbers, other text.

        Raises
        ------
        Unreadable
            Where the column holds text.
        """
        part = _rows(self.arrow.column(name), rows)
        if self.is_text(name):
            return cells.numbers(part.to_pylist(), name)
        try:
            return np.asarray(part.cast(pa.float64()).to_numpy(), np.float64)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Unreadable(f"column {name!r} is not a column of numbers: {error}") from error

    def degrees(self, name: str, rows: Any, *, hours: bool) -> np.ndarray:
        """Cells of a column of angles.

        Parameters
        ----------
        name : str
            Column.
        rows : slice or ndarray of int
            Rows.
        hours : bool
            Sexagesimal text is in hours, as for right ascensions.

        Returns
        -------
        ndarray of float64
            Degrees; NaN where a cell is null or no angle.
        """
        if self.is_text(name):
            return cells.degrees(_rows(self.arrow.column(name), rows).to_pylist(), hours=hours)
        unit = self.units.get(name, "").strip().lower()
        return self.numbers(name, rows) * cells.DEGREES_IN.get(unit, 1.0)

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


def read_parquet(source: Source) -> Table:
    """Read a Parquet file.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    Table
        All of it.

    Raises
    ------
    Unreadable
        Where the bytes are damaged.
    """
    try:
        arrow = pyarrow.parquet.read_table(source.stream())
    except (pa.ArrowInvalid, OSError) as error:
        raise Unreadable(f"not readable as Parquet: {source.file.source}: {error}") from error
    return Table(arrow, {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in arrow.schema})


def read_astropy(source: Source, kind: str) -> Table:
    """Read an ECSV file or a VOTable.

    Parameters
    ----------
    source : Source
        The file.
    kind : str
        ``"ecsv"`` or ``"votable"``.

    Returns
    -------
    Table
        All of it.

    Raises
    ------
    Unreadable
        Where the bytes are damaged.
    """
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
            arrays[name] = pa.array(np.asarray(column.mjd, np.float64))
            units[name] = {"tdb": "bmjd", "tai": "tai", "tcb": "tcb"}.get(column.scale, "mjd")
            continue
        if column.ndim != 1:
            continue
        values = np.ma.asarray(column)
        data = values.filled(np.nan) if values.dtype.kind == "f" else np.asarray(values.data)
        if data.dtype.kind in "OSU":
            data = np.array([v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in data], object)
        else:
            data = data.astype(data.dtype.newbyteorder("="))
        arrays[name] = pa.array(data, mask=np.ma.getmaskarray(values))
        units[name] = str(column.unit or "") or unit_in_name(name)
    return Table(pa.table(arrays), units, {name: meta[name] for name in (*_META, "mjdref") if name in meta})


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
    found = _from_columns(table, _meta(header))
    units = {c.name: str(c.unit or "") or unit_in_name(c.name) for c in hdu.columns}
    return Table(found.arrow, units, found.meta)


def _meta(header: Mapping[str, Any]) -> dict[str, Any]:
    """What cards say of the whole table."""
    meta = {key: header[card] for key, card in (("object", "OBJECT"), ("band", "FILTER")) if _stated(header, card)}
    place = next((pair for pair in _POSITIONS if all(_stated(header, card) for card in pair)), None)
    if place is not None:
        meta |= {"ra": header[place[0]], "dec": header[place[1]]}
    reference = [header.get(card) for card in ("MJDREF", "MJDREFI", "MJDREFF")]
    if any(isinstance(value, (int, float)) for value in reference):
        meta["mjdref"] = sum(float(value) for value in reference if isinstance(value, (int, float)))
    return meta


def _stated(header: Mapping[str, Any], card: str) -> bool:
    return isinstance(header.get(card), (int, float, str)) and header[card] != ""
