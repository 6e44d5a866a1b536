"""Small spectrum files of the surveys' own make, and how the tests of the readers read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from transforms.attempt import NoReader
from transforms.readers import spectra, survey_spectra
from transforms.readers.format import Source
from transforms.records import FileRef, Spectrum

FORMATS = (*survey_spectra.FORMATS, *spectra.FORMATS)
N = 300
WAVE = np.linspace(4000.0, 7000.0, N)
FLUX = 1.0 + 0.1 * np.sin(WAVE / 50.0)


def read(path: Path) -> tuple[str, list[Spectrum]]:
    """Name of the format and all records of a file."""
    with Source(FileRef(url=str(path), source=path.name)) as source:
        for item in FORMATS:
            if item.sniff(source):
                return item.name, [e.load() for i in item.items(source) for e in item.entries(source, i)]
    raise NoReader(path.name)


def line(path: Path, data: np.ndarray = FLUX, **cards: Any) -> Spectrum:
    """Write a one-dimensional image and read it."""
    hdu = fits.PrimaryHDU(np.asarray(data, dtype=np.float32))
    hdu.header.update({"CRVAL1": 4000.0, "CDELT1": 10.0, **cards})
    hdu.writeto(path / "line.fits", overwrite=True)
    (record,) = read(path / "line.fits")[1]
    return record


def cells(name: str = "", rows: int = 1, **columns: Any) -> fits.BinTableHDU:
    """Make a table of ``rows`` rows: arrays of N in cells, and one scalar a row; ``(values, unit)`` states a unit."""
    made = []
    for key, given in columns.items():
        values, unit = given if isinstance(given, tuple) else (given, None)
        values = np.asarray(values)
        if values.dtype.kind == "U":
            form = "16A"
        elif values.ndim and values.shape[-1] == N:
            form, values = f"{N}D", np.broadcast_to(values, (rows, N))
        else:
            form = "D"
        made.append(fits.Column(key, form, unit=unit, array=values))
    return fits.BinTableHDU.from_columns(made, name=name)


def tables(path: Path, *hdus: Any, **cards: Any) -> list[Spectrum]:
    """Write extensions behind an empty primary header with these cards, and read the file."""
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    fits.HDUList([primary, *hdus]).writeto(path / "table.fits", overwrite=True)
    return read(path / "table.fits")[1]
