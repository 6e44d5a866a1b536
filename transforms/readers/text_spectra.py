"""Spectra in CSV, ECSV and other text tables with named columns: one row a pixel, one or many objects a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.flags import bits
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_columns import Layout, air_by_name, column_wavelength, layout, planes
from transforms.readers.spectrum_record import TEXT_ROWS, make_spectrum, row_items, stem
from transforms.records import Item, Spectrum


def header_line(text: str) -> tuple[list[str], str, int]:
    """Find the line that names the columns.

    Parameters
    ----------
    text : str
        A text table; lines that begin with ``#`` before the header are comments, and the last of them may be it.

    Returns
    -------
    names : list of str
        Column names.
    delimiter : str
        ``","``, ``";"``, tab, or a space for any white space.
    skip : int
        Number of lines before the data.
    """
    candidate, number = "", 0
    for number, line in enumerate(text.split("\n")):
        if line.startswith("#"):
            candidate = line[1:]
            continue
        if not line.strip():
            continue
        first = line.replace(",", " ").replace(";", " ").split()[0].strip("\"'")
        if not _is_number(first):
            return *_split(line), number + 1
        break
    return *_split(candidate), number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split(line: str) -> tuple[list[str], str]:
    delimiter = next((mark for mark in (",", ";", "\t") if mark in line), " ")
    parts = line.split() if delimiter == " " else line.split(delimiter)
    return [part.strip().strip("\"'") for part in parts], delimiter


def _sniff(source: Source) -> bool:
    if not source.is_text or source.is_fits:
        return False
    names, _, skip = header_line(source.head.decode("utf-8", "replace"))
    if skip == 0 or layout(names) is None or {"time", "mjd", "jd", "bjd"} & {name.lower() for name in names}:
        return False
    lines = source.head.decode("utf-8", "replace").split("\n")
    return not (len(lines) > skip and any(mark in lines[skip] for mark in "([{"))  # cells of arrays are not ours


def _read(source: Source) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, Any], Layout]:
    text = source.text
    names, delimiter, skip = header_line(text)
    found = layout(names)
    if found is None:
        raise Unreadable(f"{source.file.source}: no columns of wavelength and flux among {', '.join(names)}")
    if text.startswith("# %ECSV"):
        from astropy.table import Table

        table = Table.read(text.split("\n"), format="ascii.ecsv")
        units = {name: str(table[name].unit or "") for name in table.colnames}
        return (
            {name: np.asarray(np.ma.filled(table[name].data, _fill(table[name]))) for name in table.colnames},
            units,
            dict(table.meta),
            found,
        )
    rows = [line for line in text.split("\n")[skip:] if line.strip() and not line.startswith("#")]
    cells = [line.split() if delimiter == " " else line.split(delimiter) for line in rows]
    wrong = next((k for k, row in enumerate(cells) if len(row) != len(names)), None)
    if wrong is not None:
        raise Unreadable(
            f"{source.file.source}: line {skip + wrong + 1} has {len(cells[wrong])} cells, the header {len(names)}"
        )
    columns = {name: np.array([row[k].strip().strip("\"'") for row in cells]) for k, name in enumerate(names)}
    numeric = {n for n in (found.wavelength, found.flux, found.ivar, found.variance, found.error, found.mask) if n}
    return {n: _numbers(c) if n in numeric else c for n, c in columns.items()}, {}, {}, found


def _fill(column: Any) -> Any:
    return np.nan if column.dtype.kind == "f" else ("" if column.dtype.kind in "US" else 0)


def _numbers(cells: np.ndarray) -> np.ndarray:
    """Cells as numbers; what is none (empty, ``null``, ``--``) becomes NaN, true and false 1 and 0."""
    try:
        return cells.astype(np.float64)
    except ValueError:
        words = {"true": 1.0, "t": 1.0, "false": 0.0, "f": 0.0}
        return np.array([float(c) if _is_number(c) else words.get(c.lower(), np.nan) for c in cells])


def _items(source: Source) -> list[Item]:
    columns, _, _, found = _read(source)
    if not columns[found.flux].size:
        raise Unusable(f"{source.file.source}: the table has 0 rows")
    return row_items(source, "text_spectrum", "", len(_runs(columns, found)), TEXT_ROWS)


def _runs(columns: dict[str, np.ndarray], found: Layout) -> list[tuple[str, np.ndarray]]:
    """Rows of each object, in the order in which objects first appear."""
    if not found.object:
        return [("", np.arange(columns[found.flux].size))]
    names, first, inverse = np.unique(columns[found.object].astype(str), return_index=True, return_inverse=True)
    return [(str(names[k]), np.flatnonzero(inverse == k)) for k in np.argsort(first)]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    columns, units, meta, found = _read(source)
    runs = _runs(columns, found)
    for row in range(item.start, len(runs) if item.stop < 0 else item.stop):
        name, pixels = runs[row]

        def load(row: int = row, name: str = name, pixels: np.ndarray = pixels) -> Spectrum:
            part = {key: values[pixels] for key, values in columns.items()}
            return _load(source, row, name or str(meta.get("object_id") or stem(source)), part, units, meta, found)

        yield Entry(row=row, load=load, object_id=name)


def _load(
    source: Source,
    row: int,
    name: str,
    columns: dict[str, np.ndarray],
    units: dict[str, str],
    meta: dict[str, Any],
    found: Layout,
) -> Spectrum:
    wavelength = column_wavelength(columns[found.wavelength], found.wavelength, units.get(found.wavelength, ""))
    flux, ivar, mask = planes(found, columns)
    air = air_by_name(found.wavelength, columns)
    if air is None and "air" in meta:
        air = bool(meta["air"])
    lower = {key.lower(): values for key, values in columns.items()}
    ra, dec = (_constant(lower.get(key), meta.get(key)) for key in ("ra", "dec"))
    mjd = _constant(None, meta.get("mjd"))
    return make_spectrum(
        source, wavelength, flux, ivar, mask, air=air, frame=str(meta.get("frame", "")), row=row, object_id=name,
        ra=ra, dec=dec, mjd=mjd, time_scale=str(meta.get("time_scale", "")) if mjd is not None else "",
        unit=units.get(found.flux, ""), z_header=_constant(lower.get("z"), meta.get("z")),
        flags=bits("GENERATED") if _any_true(lower.get("generated")) else 0,
    )  # fmt: skip


def _any_true(column: np.ndarray | None) -> bool:
    return column is not None and any(str(cell).strip().lower() in ("true", "1") for cell in column.tolist())


def _constant(column: np.ndarray | None, meta: Any) -> float | None:
    """A number that is the same for all pixels: first cell of a column, else of the table's metadata."""
    value = meta if column is None or not column.size else column[0]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


FORMATS = (
    Format(
        name="text_spectrum",
        record=Spectrum,
        description="CSV, ECSV or text table with columns of wavelength and flux (error, ivar, mask, object_id)",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
