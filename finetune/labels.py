"""Label files: CSV, ECSV, Parquet, FITS or VOTable, found from content, to plain rows."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import fsspec
import numpy as np

#: Columns that stay text whatever they look like: "0012" is not 12.
TEXT = ("object_id", "source", "hdu", "group", "origin")
#: Columns by which a label finds its record.
KEYS = ("object_id", "source", "ra", "dec")


class LabelError(ValueError):
    """A label file cannot be used; the message names what is wrong and what was found."""


def read_labels(
    url: str, required: Sequence[str] = (), names: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Read a label file.

    Parameters
    ----------
    url : str
        Path or fsspec URL.
    required : sequence of str
        Columns that must be there, beside a key (``object_id``, ``source``, or ``ra`` and ``dec``).
    names : mapping of str to str
        Our name of a column to the one in the file, where they differ.

    Returns
    -------
    list of dict
        One for each row, every column; a missing value (blank, masked, NaN) is None.

    Raises
    ------
    LabelError
        Where it is not there, is no table, or lacks columns.
    """
    try:
        with fsspec.open(url, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise LabelError(f"labels {url!r} cannot be read: {error}") from error
    kind, read = _reader(content)
    try:
        columns = read(content, {*TEXT, *(theirs for ours, theirs in names.items() if ours in TEXT)})
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LabelError(f"labels {url!r} are not readable as {kind}: {' '.join(str(error).split())[:300]}") from error
    columns = _renamed(url, columns, names)
    missing = [name for name in required if name not in columns]
    if not any(_has_key(columns, key) for key in (("object_id",), ("source",), ("ra", "dec"))):
        missing.append("object_id, source, or ra and dec")
    if missing:
        raise LabelError(
            f"labels {url!r} lack {'; '.join(missing)}; the columns are {', '.join(columns) or 'none'}. If one of them "
            f"has another name, say --label-column {missing[0].split(',')[0]}=NAME"
        )
    lengths = {len(values) for values in columns.values()}
    if lengths == {0}:
        raise LabelError(f"labels {url!r} hold no rows")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _renamed(url: str, columns: _Columns, names: Mapping[str, str]) -> _Columns:
    gone = [f"{theirs} (for {ours})" for ours, theirs in names.items() if theirs not in columns]
    if gone:
        raise LabelError(f"labels {url!r} lack {', '.join(gone)}; the columns are {', '.join(columns) or 'none'}")
    others = {name: values for name, values in columns.items() if name not in names}
    return {**others, **{ours: columns[theirs] for ours, theirs in names.items()}}


def _has_key(columns: dict[str, list[Any]], names: Sequence[str]) -> bool:
    return all(name in columns for name in names)


_Columns = dict[str, list[Any]]
_Texts = Collection[str]  #: Names of columns that stay text.


def _reader(content: bytes) -> tuple[str, Callable[[bytes, _Texts], _Columns]]:
    head = content[:2000].lstrip()
    if content.startswith(b"PAR1"):
        return "Parquet", _read_parquet
    if content.startswith(b"SIMPLE  ="):
        return "FITS", partial(_read_astropy, form="fits")
    if b"<VOTABLE" in head.upper():
        return "VOTable", partial(_read_astropy, form="votable")
    if head.startswith(b"# %ECSV"):
        return "ECSV", partial(_read_astropy, form="ascii.ecsv")
    return "CSV", _read_csv


def _read_parquet(content: bytes, texts: _Texts) -> _Columns:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    return {name: [_value(v, name in texts) for v in table.column(name).to_pylist()] for name in table.column_names}


def _read_astropy(content: bytes, texts: _Texts, form: str) -> _Columns:
    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units and dates that are off the standard do not matter for labels
        table = Table.read(content.decode("utf-8") if form == "ascii.ecsv" else io.BytesIO(content), format=form)
    columns = {}
    for name in table.colnames:
        masked = np.ma.getmaskarray(table[name])
        values = [None if np.all(bad) else value for value, bad in zip(table[name], masked, strict=True)]
        columns[name] = [_value(v, name in texts) for v in values]
    return columns


def _read_csv(content: bytes, texts: _Texts) -> _Columns:
    text = content.decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError("the file is empty")
    delimiter = max(",\t;", key=lines[0].count)
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    names = [name.strip() for name in rows[0]]
    if len(set(names)) < len(names):
        raise ValueError(f"a column name stands twice in {', '.join(names)}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} values, the header has {len(names)}")
    columns = zip(*rows[1:], strict=True) if rows[1:] else ([] for _ in names)
    stripped = {name: [v.strip() for v in column] for name, column in zip(names, columns, strict=True)}
    return {
        name: [v or None for v in column] if name in texts else _numbers(column) for name, column in stripped.items()
    }


def _numbers(values: list[str]) -> list[Any]:
    """Numbers where every value that is not blank is one, else text."""
    try:
        return [_value(float(value), False) if value else None for value in values]
    except ValueError:
        return [value or None for value in values]


def _value(value: Any, text: bool) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value != value or value == "":
        return None
    if isinstance(value, str):
        return value.strip()
    if text:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return value
