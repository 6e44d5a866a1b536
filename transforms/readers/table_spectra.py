"""Spectra in FITS binary tables: one row a pixel, or arrays in cells with one row a spectrum, an order or an arm."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.echelle_spectra import join_orders
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_columns import Layout, air_by_name, layout, planes, to_angstrom
from transforms.readers.spectrum_record import make_spectrum, row_items, stem
from transforms.records import Item, Spectrum


def _tables(source: Source) -> list[tuple[int, Layout]]:
    """Extensions that hold spectra."""
    found = []
    for index, hdu in enumerate(source.hdus):
        if hasattr(hdu, "columns") and (names := layout(hdu.columns.names)) is not None:
            found.append((index, names))
    return found


def _sniff(source: Source) -> bool:
    return source.is_fits and bool(_tables(source))


def _is_arrays(hdu: Any, names: Layout) -> bool:
    return len(hdu.columns[names.flux].array.shape) > 1 if len(hdu.data) else False


def _kind(source: Source, index: int, names: Layout) -> str:
    """``pixels``, ``orders`` (all rows one object), ``arms`` (DEEP2: extensions of one object) or ``spectra``."""
    hdu = source.hdus[index]
    if not _is_arrays(hdu, names):
        return "pixels"
    upper = {name.upper() for name in hdu.columns.names}
    if {"SPORDER", "NELEM"} <= upper or "ORDER" in upper:
        return "orders"
    return "arms" if hdu.name.upper().endswith(("-B", "-R")) else "spectra"


def _items(source: Source) -> list[Item]:
    index, names = _tables(source)[0]
    if source.hdus[index].data is None or not len(source.hdus[index].data):
        raise Unusable(f"{source.file.source}: extension {index} holds 0 rows")
    kind = _kind(source, index, names)
    count = len(source.hdus[index].data) if kind == "spectra" else 1
    return row_items(source, "fits_spectrum_table", str(index), count)


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    tables = _tables(source)
    index, names = tables[0]
    kind = _kind(source, index, names)
    for row in range(item.start, item.stop):
        yield Entry(row=row, load=partial(_load, source, row, kind, tables))


def _part(source: Source, index: int, names: Layout, row: int | None) -> tuple[np.ndarray, Any, Any, Any]:
    hdu = source.hdus[index]
    data = hdu.data if row is None else hdu.data[row]
    unit = str(hdu.columns[names.wavelength].unit or "")
    flux, ivar, mask = planes(names, data)
    return to_angstrom(data[names.wavelength], names.wavelength, unit), flux, ivar, mask


def _load(source: Source, row: int, kind: str, tables: list[tuple[int, Layout]]) -> Spectrum:
    index, names = tables[0]
    if kind == "orders":
        parts = [_part(source, index, names, k) for k in range(len(source.hdus[index].data))]
    elif kind == "arms":
        ends = source.hdus[index].name.upper()[:-2]
        optimal = any(source.hdus[k].name.upper().startswith("HORNE") for k, _ in tables)
        wanted = "HORNE" if optimal else ends  # optimal extraction where there is one
        parts = [_part(source, k, n, 0) for k, n in tables if source.hdus[k].name.upper()[:-2] == wanted]
    else:
        parts = [_part(source, index, names, row if kind == "spectra" else None)]
    wavelength, flux, ivar, mask = parts[0] if len(parts) == 1 else join_orders(parts)
    return _record(source, row, index, names, (wavelength, flux, ivar, mask))


def _record(source: Source, row: int, index: int, names: Layout, arrays: tuple[Any, ...]) -> Spectrum:
    wavelength, flux, ivar, mask = arrays
    hdu, primary = source.hdus[index], source.hdus[0].header
    headers = (hdu.header, primary)
    air = air_by_name(names.wavelength)
    for header in headers:
        air = head.in_air(header) if air is None else air
    space = str(head.card(primary, "TELESCOP") or "").strip().upper() == "HST"
    frame = next((f for f in map(head.frame, headers) if f), "")
    if str(head.card(primary, "HELCORR")).strip().upper() == "COMPLETE":
        frame = "heliocentric"  # HST: STIS and COS
    ra, dec = next((p for p in map(head.position, headers) if p[0] is not None), (None, None))
    mjd, scale = next((t for t in map(head.middle_of_exposure, headers) if t[0] is not None), (None, ""))
    name = next((v for h in headers if (v := head.card(h, "OBJNO", "TARGNAME", "OBJECT"))), None)
    if names.object and row < len(hdu.data) and np.ndim(hdu.data[names.object][row]) == 0:
        name = hdu.data[names.object][row]
    return make_spectrum(
        source, wavelength, flux, ivar, mask, air=False if space else air, frame=frame, hdu=str(index), row=row,
        object_id=str(name or stem(source)).strip(), ra=ra, dec=dec, mjd=mjd, time_scale=scale,
        unit=str(hdu.columns[names.flux].unit or ""), z_header=head.number(primary, "Z", "REDSHIFT"),
    )  # fmt: skip


FORMATS = (
    Format(
        name="fits_spectrum_table",
        record=Spectrum,
        description="FITS binary table with columns of wavelength, flux, error; rows are pixels, spectra or orders",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
