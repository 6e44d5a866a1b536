"""A list of targets, with identifier and position, from any kind of table."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.readers.format import Source
from transforms.records import FileRef

#: Names that a column may have, compared in lower case without leading "#" and "_"; the first one there is taken.
IDENTIFIERS = (
    "object_id",
    "objid",
    "id",
    "source_id",
    "target_id",
    "targetid",
    "name",
    "obj_id",
    "objectid",
)
RIGHT_ASCENSIONS = ("ra", "ra_deg", "raj2000", "right_ascension", "ra_icrs", "alpha_j2000", "target_ra", "ira")
DECLINATIONS = (
    "dec",
    "dec_deg",
    "dej2000",
    "decj2000",
    "de",
    "declination",
    "de_icrs",
    "delta_j2000",
    "target_dec",
    "idec",
)
_SEXAGESIMAL = re.compile(r"[+-]?\d{1,3}[: h\u00b0d]\s*\d{1,2}[: m']\s*\d{1,2}(\.\d*)?[s\"]?")
#: What people write, and the unit meant; "h" of a right ascension is the angle.
_UNITS = ((r"deg.*", "deg"), (r"h|hr|hrs|hours?|hour_?angle", "hourangle"), (r"rads?|radians?", "rad"))


@dataclass(frozen=True, slots=True, eq=False)
class Targets(Sequence[tuple[str, float, float]]):
    """Positions to be measured whether or not something is detected there.

    Parameters
    ----------
    object_id : ndarray of str, shape (n,)
        Identifiers, each once.
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees.
    """

    object_id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray

    def __len__(self) -> int:
        return len(self.object_id)

    def __getitem__(self, index: Any) -> Any:
        return str(self.object_id[index]), float(self.ra[index]), float(self.dec[index])

    def __iter__(self) -> Iterator[tuple[str, float, float]]:
        return zip(self.object_id.tolist(), self.ra.tolist(), self.dec.tolist(), strict=True)


def read_targets(url: str) -> Targets:
    """Read a target list.

    Parameters
    ----------
    url : str
        CSV, ECSV, Parquet, FITS or VOTable, told apart by content; packed by gzip, bzip2 or xz as well.

    Returns
    -------
    Targets
        In the order of the file.

    Raises
    ------
    Unreadable
        Where the file is empty, damaged or of no known kind.
    Unusable
        Where a column is missing, a position is not on the sky, or an identifier stands twice.
    """
    name = url.rstrip("/").rsplit("/", 1)[-1]
    with Source(FileRef(url=url, source=name)) as source:
        table = _table(source)
    columns = {str(column).lstrip("#_ ").rstrip().lower(): column for column in table}
    names = _pick(columns, IDENTIFIERS, "identifier", name)
    ra_name = _pick(columns, RIGHT_ASCENSIONS, "right ascension", name)
    dec_name = _pick(columns, DECLINATIONS, "declination", name)
    ra = degrees(table[ra_name], ra_name, name, "hourangle")
    dec = degrees(table[dec_name], dec_name, name, "deg")
    bad = ~(np.isfinite(ra) & np.isfinite(dec) & (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise Unusable(
            f"target list {name}: row {row} is not on the sky (ra = {ra[row]:g}, dec = {dec[row]:g} degrees)"
        )
    object_id = np.array([_text(value) for value in table[names]], dtype=str)
    unique, count = np.unique(object_id, return_counts=True)
    if (count > 1).any():
        twice = unique[np.argmax(count > 1)]
        raise Unusable(f"target list {name}: identifier {str(twice)!r} stands {int(count.max())} times")
    return Targets(object_id, ra % 360, dec)


def _text(value: Any) -> str:
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def _pick(columns: dict[str, Any], wanted: Sequence[str], what: str, name: str) -> Any:
    for candidate in wanted:
        if candidate in columns:
            return columns[candidate]
    raise Unusable(
        f"target list {name} has no column for the {what}: it has {', '.join(list(columns)[:20])}; "
        f"known names are {', '.join(wanted)}"
    )


def degrees(values: Any, column: str, name: str, sexagesimal: str) -> np.ndarray:
    """Read a column of angles.

    Parameters
    ----------
    values : Column or ndarray, shape (n,)
        Numbers in the column's own unit (degrees where it states none), or text such as "12 34 56.7".
    column, name : str
        Names of column and file, for the message.
    sexagesimal : str
        Unit of the first part of a text: ``"hourangle"`` or ``"deg"``.

    Returns
    -------
    ndarray of float64, shape (n,)
        Degrees; NaN where masked.

    Raises
    ------
    Unusable
        Where the column holds no angles.
    """
    from astropy import units
    from astropy.coordinates import Angle

    stated = str(getattr(values, "unit", None) or "deg")
    plain = next((word for pattern, word in _UNITS if re.fullmatch(pattern, stated, re.I)), stated)
    unit = units.Unit(plain, parse_strict="silent")
    texts = [_text(value) for value in np.ma.filled(np.ma.asarray(values), "" if values.dtype.kind in "OSU" else 0)]
    try:
        if texts and all(_SEXAGESIMAL.fullmatch(text) for text in texts):
            return np.asarray(Angle(texts, unit=sexagesimal).deg, float)
        numbers = np.ma.filled(np.ma.asarray(values).astype(float), np.nan)
        return np.asarray(units.Quantity(numbers, unit).to_value(units.deg), float)
    except (TypeError, ValueError) as error:
        raise Unusable(f"target list {name}: column {column!r} does not hold degrees: {error}") from error


def _table(source: Source) -> dict[str, Any]:
    """Read any table as a dict of columns; astropy and Arrow do the work."""
    if not source.head:
        raise Unreadable(f"target list is empty (0 bytes): {source.file.source}")
    if source.head.startswith(b"PAR1"):
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            arrow = parquet.read_table(io.BytesIO(source.content))
        except (pyarrow.ArrowException, OSError) as error:
            raise Unreadable(f"target list {source.file.source} can't be read as Parquet: {error}") from error
        return {column: np.asarray(arrow[column].to_pylist()) for column in arrow.column_names}
    from astropy.io.ascii import InconsistentTableError
    from astropy.table import Table

    start = source.head[:2048].lstrip()
    if source.is_fits:
        kind = "fits"
    elif start.startswith(b"<") and b"VOTABLE" in source.head.upper():
        kind = "votable"
    elif not source.is_text:
        raise Unreadable(f"target list {source.file.source} begins with {source.head[:8].hex(' ')}: no known table")
    else:
        kind = "ascii.ecsv" if start.startswith(b"# %ECSV") else "ascii.csv"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and ids that break a standard do not hurt positions
            stream: Any = source.text if kind.startswith("ascii") else io.BytesIO(source.content)
            table = Table.read(stream, format=kind)
    except (ValueError, OSError, IndexError, TypeError, KeyError, InconsistentTableError) as error:
        raise Unreadable(f"target list {source.file.source} can't be read as {kind}: {error}") from error
    return {column: table[column] for column in table.colnames}
