"""Tables of light curves as named columns, whatever the file: CSV, ECSV, Parquet, VOTable, FITS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow.parquet

from transforms.readers.format import Source
from transforms.readers.light_curve_columns import known
from transforms.readers.light_curve_parsers import Table, read_astropy, read_fits, read_parquet
from transforms.readers.light_curve_text import header, read_text

#: ``time_points_b``, ``light_points_b``, ``error_points_b``: one list column for each band (EROS-1, where ``light`` is
#: a magnitude, as its mean, ``magnitude_b``, shows).
_PER_BAND = re.compile(r"(?P<role>time|light|mag|flux|error)(_points)?_(?P<band>[a-z]+)\Z", re.IGNORECASE)


def table_kind(source: Source) -> str:
    """What sort of table a file is.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    str
        ``"parquet"``, ``"fits"``, ``"votable"``, ``"ecsv"``, ``"csv"`` or empty.
    """
    head = source.head
    if head.startswith(b"PAR1"):
        return "parquet"
    if source.is_fits:
        return "fits"
    if not source.is_text:
        return ""
    if b"<VOTABLE" in head[:2000]:
        return "votable"
    return "ecsv" if head.startswith(b"# %ECSV") else "csv"


def head_names(source: Source) -> list[str]:
    """Column names, read as cheaply as the file allows.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    list of str
        Empty where the file is no table; for FITS those of the first table with known columns.
    """
    kind = table_kind(source)
    if kind == "parquet":
        return list(pyarrow.parquet.read_schema(source.stream()).names)
    if kind == "fits":
        for hdu in source.hdus[1:]:
            names = list(getattr(getattr(hdu, "columns", None), "names", []) or [])
            if known(names) is not None:
                return names
        return []
    if kind == "votable":
        return re.findall(r'<FIELD[^>]*\bname="([^"]+)"', source.head.decode("utf-8", "replace"))
    if kind in ("csv", "ecsv"):
        names, delimiter, skip = header(source.head.decode("utf-8", "replace"))
        return names if skip and (delimiter != " " or len(names) <= 20) else []
    return []


def list_bands(names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Columns of time, value and error for each band, where a table has them apart.

    Parameters
    ----------
    names : sequence of str
        List columns.

    Returns
    -------
    dict of str to tuple of str
        Band to the names of its three columns; bands in alphabetical order.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _PER_BAND.match(name)
        if match:
            role = match["role"].lower()
            role = role if role in ("time", "error") else "value"
            found.setdefault(match["band"].upper(), {})[role] = name
    return {b: (r["time"], r["value"], r["error"]) for b, r in sorted(found.items()) if len(r) == 3}


def read_table(source: Source, hdu: str = "") -> Table:
    """Read a table; the last one is kept, since one file serves many items.

    Parameters
    ----------
    source : Source
        The file.
    hdu : str
        FITS extension.

    Returns
    -------
    Table
        All of it.

    Raises
    ------
    Unreadable
        Where the bytes are damaged.
    """
    kind = table_kind(source)
    return _cached(_Key(source, kind, hdu)) if source.file.digest else _read(source, kind, hdu)


def _read(source: Source, kind: str, hdu: str) -> Table:
    if kind == "fits":
        return read_fits(source, int(hdu))
    if kind == "parquet":
        return read_parquet(source)
    return read_text(source) if kind == "csv" else read_astropy(source, kind)


class _Key:
    """A table of a source, equal to the same of another source of the same bytes."""

    def __init__(self, source: Source, kind: str, hdu: str) -> None:
        self.source: Source | None = source
        self.kind, self.hdu = kind, hdu
        self.name = (source.url, source.file.digest, hdu)

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.name == other.name


@lru_cache(maxsize=1)
def _cached(key: _Key) -> Table:
    source, key.source = key.source, None  # the cache keeps the key, not the opened file
    if source is None:
        raise RuntimeError("a cached table was asked for without its file")
    return _read(source, key.kind, key.hdu)


def groups(table: Table, column: str) -> list[tuple[str, Any]]:
    """Rows of each object, objects in the order of their first row.

    Parameters
    ----------
    table : Table
        Long table.
    column : str
        Column of identifiers; empty: one object.

    Returns
    -------
    list of (str, slice or ndarray of int)
        Identifier and rows.
    """
    if not column or table.n_row == 0:
        return [("", slice(None))]
    encoded = table.arrow.column(column).combine_chunks().dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    names = encoded.dictionary.to_pylist()
    return [
        ("" if names[codes[part[0]]] is None else str(names[codes[part[0]]]), part) for part in np.split(order, edges)
    ]
