"""Low-resolution spectra of Gaia (BP and RP) in the archive's five formats, and spectrophotometric standards like them.

Sampled spectra have no wavelength column: 343 samples from 336 to 1020 nm (De Angeli et al. 2023, A&A 674, A2), in
vacuum. The continuous representation (coefficients of basis functions) holds no flux and is refused.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_columns import NAMES as LIGHT_CURVE
from transforms.readers.spectrum_record import ROWS, TEXT_ROWS, error_to_ivar, make_spectrum, row_items
from transforms.records import Item, Spectrum

SAMPLING_NM = np.arange(336.0, 1020.1, 2.0)  #: 343 samples.

_USED = {"source_id", "flux", "flux_error", "wl", "ra", "dec"}


def _names(source: Source) -> set[str]:
    """Column names, as far as the head of the file tells."""
    if source.is_fits:
        hdus = source.hdus
        found = len(hdus) > 1 and hasattr(hdus[1], "columns")
        return {name.lower() for name in hdus[1].columns.names} if found else set()
    text = source.head.decode("utf-8", "replace")
    if "<VOTABLE" in text[:2000]:
        return {name.lower() for name in re.findall(r'<FIELD\b[^>]*?\bname="([^"]+)"', text)}
    line = next((line for line in text.split("\n") if line.strip() and not line.startswith("#")), "")
    return {name.strip().strip('"').lower() for name in line.split(",")}


def _is_continuous(source: Source) -> bool:
    return {"source_id", "bp_coefficients"} <= _names(source)


def _refuse(source: Source) -> list[Item]:
    raise Unusable(
        f"{source.file.source}: Gaia continuous representation (coefficients of basis functions) holds no sampled flux;"
        " ask the archive for XP_SAMPLED"
    )


def _no_entries(source: Source, item: Item) -> Iterator[Entry]:
    yield from ()


def _is_sampled(source: Source) -> bool:
    names = _names(source)
    return {"source_id", "flux", "flux_error"} <= names and names.isdisjoint(LIGHT_CURVE["time"])


def _table(source: Source) -> dict[str, Any]:
    """Columns by lower-case name, arrays in cells."""
    if source.is_fits:
        data = source.hdus[1].data
        return {name.lower(): data[name] for name in data.names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units that the VOTable standard does not know, such as Angle[deg]
        if "<VOTABLE" in source.text[:2000]:
            from astropy.io.votable import parse_single_table

            table = parse_single_table(io.BytesIO(source.content)).to_table()
            return {name.lower(): list(table[name]) for name in table.colnames}
        return _text_table(source)


def _text_table(source: Source) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import csv

    body = "\n".join(line for line in source.text.split("\n") if not line.startswith("#")).encode()
    options = csv.ReadOptions(block_size=max(len(body), 1))
    try:
        table = csv.read_csv(io.BytesIO(body), options, csv.ParseOptions(newlines_in_values=True))
    except pa.ArrowInvalid as error:
        raise Unreadable(f"{source.file.source}: not a table: {error}") from error
    return {name.lower(): table.column(name).to_pylist() for name in table.column_names if name.lower() in _USED}


def _numbers(cell: Any) -> np.ndarray:
    """An array cell: an array already, or text like ``(1.0, NaN, null)`` or ``[1.0, 2.0]``."""
    if isinstance(cell, str):
        parts = cell.strip().strip("()[]").split(",")
        return np.array([np.nan if p.strip().strip('"') in {"null", ""} else float(p) for p in parts])
    return np.ma.filled(np.ma.asarray(cell, dtype=np.float64), np.nan)


def _items(source: Source) -> list[Item]:
    hdu = "1" if source.is_fits else ""
    rows = ROWS if source.is_fits else TEXT_ROWS
    return row_items(source, "gaia_xp_sampled", hdu, len(_table(source)["source_id"]), rows)


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    table = _table(source)
    for row in range(item.start, item.stop):
        name = f"Gaia {table['source_id'][row]}"
        yield Entry(row=row, object_id=name, load=partial(_load, source, item, row, name, table))


def _load(source: Source, item: Item, row: int, name: str, table: Mapping[str, Any]) -> Spectrum:
    flux = _numbers(table["flux"][row])
    if "wl" in table:
        wavelength = _numbers(table["wl"][row])
    elif flux.size == SAMPLING_NM.size:
        wavelength = SAMPLING_NM
    else:
        raise Unusable(
            f"{name}: no wavelength solution ({flux.size} samples, the archive's grid has {SAMPLING_NM.size})"
        )
    ra, dec = (float(table[key][row]) if key in table else None for key in ("ra", "dec"))
    return make_spectrum(
        source, 10.0 * wavelength, flux, error_to_ivar(_numbers(table["flux_error"][row])), air=False, frame="",
        hdu=item.hdu, row=row, object_id=name, ra=ra, dec=dec, unit="W m-2 nm-1",
    )  # fmt: skip


FORMATS = (
    Format(
        name="gaia_xp_continuous",
        record=Spectrum,
        description="Gaia BP and RP coefficients: refused, with what to ask the archive for",
        sniff=_is_continuous,
        items=_refuse,
        entries=_no_entries,
    ),
    Format(
        name="gaia_xp_sampled",
        record=Spectrum,
        description="Gaia BP and RP sampled spectra as FITS, CSV, ECSV or VOTable; many sources a file",
        sniff=_is_sampled,
        items=_items,
        entries=_entries,
    ),
)
