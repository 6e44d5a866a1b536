"""Spectra in FITS binary tables: one row a pixel, or arrays in cells with one row a spectrum, an order or an arm.

Each table of a file is an item of its own, so that nothing is lost; only arms and orders that are known as such are
joined.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.echelle_spectra import join_orders
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_columns import Layout, air_by_name, column_wavelength, layout, planes
from transforms.readers.spectrum_position import degrees, position, to_icrs
from transforms.readers.spectrum_record import make_spectrum, row_items, stem
from transforms.readers.spectrum_time import middle_of_exposure
from transforms.records import Item, Spectrum

#: Columns of which any says that the rows are parts of one spectrum: echelle orders, the segments of COS.
_PARTS = {"ORDER", "SPORDER", "SEGMENT"}
#: Columns of what a row knows of its object, in lower case, the best first.
_ROW_POSITIONS = (
    ("ra", "dec"), ("ra_obj", "dec_obj"), ("source_ra", "source_dec"), ("target_ra", "target_dec"),
    ("plug_ra", "plug_dec"), ("raj2000", "dej2000"), ("fiber_ra", "fiber_dec"),
)  # fmt: skip
_ROW_TIMES = ("mjd_mid", "mjd-mid", "mjd-avg", "mjd_avg", "mjd", "mjd-obs", "mjd_obs")
_ROW_REDSHIFTS = ("z", "redshift")


def _tables(source: Source) -> dict[int, Layout]:
    """Extensions that hold spectra."""
    found = {}
    for index, hdu in enumerate(source.hdus):
        if hasattr(hdu, "columns") and (names := layout(hdu.columns.names)) is not None:
            found[index] = names
    return found


def _sniff(source: Source) -> bool:
    return source.is_fits and bool(_tables(source))


def _is_arrays(hdu: Any, names: Layout) -> bool:
    column = hdu.columns[names.flux]
    if not len(hdu.data):
        return False
    return len(column.array.shape) > 1 or any(kind in str(column.format) for kind in "PQ")  # of fixed or varying length


def _is_arm(hdu: Any) -> bool:
    return hdu.name.upper().endswith(("-B", "-R"))


def _kind(source: Source, index: int, names: Layout) -> str:
    """``pixels``, ``orders`` (all rows one object), ``arms`` (DEEP2: extensions of one object) or ``spectra``."""
    hdu = source.hdus[index]
    if not _is_arrays(hdu, names):
        return "pixels"
    if _PARTS & {name.upper() for name in hdu.columns.names}:
        return "orders"
    return "arms" if _is_arm(hdu) else "spectra"


def _items(source: Source) -> list[Item]:
    tables = _tables(source)
    found, arms_done = [], False
    for index, names in tables.items():
        hdu = source.hdus[index]
        if hdu.data is None or not len(hdu.data):
            if len(tables) == 1:
                raise Unusable(f"{source.file.source}: extension {index} holds 0 rows")
            continue
        kind = _kind(source, index, names)
        if kind == "arms" and arms_done:
            continue
        arms_done |= kind == "arms"
        count = len(hdu.data) if kind == "spectra" else 1
        found += row_items(source, "fits_spectrum_table", str(index), count)
    if not found:
        raise Unusable(f"{source.file.source}: extensions {', '.join(map(str, tables))} hold 0 rows")
    return found


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    tables = _tables(source)
    index = int(item.hdu)
    kind = _kind(source, index, tables[index])
    for row in range(item.start, item.stop):
        yield Entry(row=row, load=partial(_load, source, index, row, kind, tables))


def _part(source: Source, index: int, names: Layout, row: int | None) -> tuple[np.ndarray, Any, Any, Any]:
    hdu = source.hdus[index]
    data = hdu.data if row is None else hdu.data[row]
    unit = str(hdu.columns[names.wavelength].unit or "")
    wavelength = column_wavelength(data[names.wavelength], names.wavelength, unit)
    used = _used(wavelength)
    flux, ivar, mask = (None if plane is None else plane[used] for plane in planes(names, data))
    return wavelength[used], flux, ivar, mask


def _used(wavelength: np.ndarray) -> slice:
    """Cells of arrays are as long as the longest of the table: what lies beyond a spectrum's end is NaN or zero."""
    real = np.flatnonzero(np.isfinite(wavelength) & (wavelength > 0))
    return slice(int(real[0]), int(real[-1]) + 1) if real.size else slice(None)


def _load(source: Source, index: int, row: int, kind: str, tables: dict[int, Layout]) -> Spectrum:
    names = tables[index]
    if kind == "orders":
        parts = [_part(source, index, names, k) for k in range(len(source.hdus[index].data))]
    elif kind == "arms":
        arms = {k: source.hdus[k].name.upper()[:-2] for k in tables if _is_arm(source.hdus[k])}
        optimal = any(name.startswith("HORNE") for name in arms.values())
        wanted = "HORNE" if optimal else arms[index]  # optimal extraction where there is one
        parts = [_part(source, k, tables[k], 0) for k, name in arms.items() if name == wanted]
    else:
        parts = [_part(source, index, names, row if kind == "spectra" else None)]
    arrays = parts[0] if len(parts) == 1 else join_orders(parts)
    return _record(source, row, index, tables, arrays, own_row=kind == "spectra")


def _record(
    source: Source, row: int, index: int, tables: dict[int, Layout], arrays: tuple[Any, ...], *, own_row: bool
) -> Spectrum:
    wavelength, flux, ivar, mask = arrays
    hdu, names = source.hdus[index], tables[index]
    headers = (hdu.header, source.hdus[0].header)
    both = ChainMap(*headers)
    frame = next((f for f in map(head.frame, headers) if f), "")
    if str(head.card(both, "HELCORR")).strip().upper() == "COMPLETE":
        frame = "heliocentric"  # HST: STIS and COS
    ra, dec = next((p for p in (position(h, both) for h in headers) if p[0] is not None), (None, None))
    mjd, scale = middle_of_exposure(both)
    z_header = head.number(headers[1], "Z", "REDSHIFT")
    if own_row:  # a row that has the column and no number in it has no position, not the pointing of the telescope
        cells = _cells(hdu, row)
        if (place := next((pair for pair in _ROW_POSITIONS if set(pair) <= set(cells)), None)) is not None:
            ra, dec = _place(cells[place[0]], cells[place[1]], {} if place[0] == "raj2000" else both)
        if (time := next((key for key in _ROW_TIMES if key in cells), None)) is not None:
            mjd, scale = (cells[time], scale or "utc") if 15_000 < cells[time] < 100_000 else (None, "")
        if (z := next((cells[key] for key in _ROW_REDSHIFTS if key in cells), None)) is not None:
            z_header = z if np.isfinite(z) else None
    return make_spectrum(
        source, wavelength, flux, ivar, mask, air=_in_air(hdu, names, headers), frame=frame, hdu=str(index), row=row,
        object_id=_name(source, row, index, names, alone=len(tables) == 1), ra=ra, dec=dec, mjd=mjd, time_scale=scale,
        unit=str(hdu.columns[names.flux].unit or ""), z_header=z_header,
    )  # fmt: skip


def _in_air(hdu: Any, names: Layout, headers: tuple[Any, ...]) -> bool | None:
    number = hdu.columns.names.index(names.wavelength) + 1
    ucd = str(head.card(hdu.header, f"TUCD{number}") or "")
    air = air_by_name(names.wavelength, hdu.columns.names, ucd)
    for header in headers:
        air = head.in_air(header) if air is None else air
    return air


def _cells(hdu: Any, row: int) -> dict[str, float]:
    """Numbers of one row, by lower-case name of the column; NaN where the cell holds none.

    Whole numbers are no times: an integer MJD is the number of a night.
    """
    wanted = {key for pair in _ROW_POSITIONS for key in pair} | {*_ROW_TIMES, *_ROW_REDSHIFTS}
    found = {}
    for name in hdu.columns.names:
        key = name.strip().lower()
        if key not in wanted or (key in _ROW_TIMES and hdu.data[name].dtype.kind in "iu"):
            continue
        if np.ndim(cell := hdu.data[name][row]) == 0:
            value = degrees(cell, hours="ra" in key) if isinstance(cell, str) else float(cell)
            found[key] = np.nan if value is None else value
    return found


def _place(ra: float, dec: float, header: Any) -> tuple[float | None, float | None]:
    return to_icrs(ra, dec, header) if np.isfinite(ra) and abs(dec) <= 90 else (None, None)


def _name(source: Source, row: int, index: int, names: Layout, *, alone: bool) -> str:
    """The row's own name, else the header's; of several tables in a file, with what tells them apart."""
    hdu = source.hdus[index]
    if names.object and row < len(hdu.data) and np.ndim(hdu.data[names.object][row]) == 0:
        return str(hdu.data[names.object][row]).strip()
    headers = (hdu.header, source.hdus[0].header)
    name = next((v for h in headers if (v := head.card(h, "OBJNO", "TARGNAME", "OBJECT"))), None)
    name = str(name or stem(source)).strip()
    own = head.card(hdu.header, "OBJNO", "TARGNAME", "OBJECT")
    if alone or own is not None:
        return name
    return f"{name}-{head.card(hdu.header, 'SOURCEID') or index}"


FORMATS = (
    Format(
        name="fits_spectrum_table",
        record=Spectrum,
        description="FITS binary tables with columns of wavelength, flux, error; rows are pixels, spectra or orders",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
