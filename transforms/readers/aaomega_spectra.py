"""Spectra of 2dF and AAOmega as 2dfdr writes them and Marz reads them (Hinton et al. 2016, A&C 15, 61).

Flux in the first image (one fibre or many), VARIANCE, FIBRES with positions in radians; wavelengths in a WAVELENGTH
image or in the header. The header's linear WCS stays behind in files that were rebinned to log10, so that the image
goes before it. Without a VACUUM card wavelengths are in air. DO_HELIO and DO_CMB ask the reader of the file for a
correction: the wavelengths as they stand are topocentric.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_record import make_spectrum, row_items, stem, variance_to_ivar
from transforms.readers.spectrum_time import middle_of_exposure
from transforms.readers.spectrum_units import to_angstrom
from transforms.records import Item, Spectrum


def _names(source: Source) -> set[str]:
    return {hdu.name.upper() for hdu in source.hdus}


def _sniff(source: Source) -> bool:
    return bool(
        source.is_fits
        and source.hdus[0].is_image
        and len(source.hdus[0].shape) in (1, 2)
        and {"VARIANCE", "FIBRES"} <= _names(source)
    )


def _items(source: Source) -> list[Item]:
    shape = source.hdus[0].shape
    return row_items(source, "aaomega", "0", 1 if len(shape) == 1 else shape[0])


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    for row in range(item.start, item.stop):
        yield Entry(row=row, load=partial(_load, source, item, row))


def _row(hdu: Any, row: int) -> np.ndarray:
    return np.asarray(hdu.data if hdu.data.ndim == 1 else hdu.data[row], dtype=np.float64)


def _load(source: Source, item: Item, row: int) -> Spectrum:
    hdus = source.hdus
    header, fibres = hdus[0].header, hdus["FIBRES"].data
    fibre = fibres[row] if row < len(fibres) else None
    kind = "P" if fibre is None or "TYPE" not in fibres.names else str(fibre["TYPE"]).strip().upper()
    if kind != "P":
        raise Unusable(f"{source.file.source}: fibre {row + 1} has type {kind or 'blank'}, no object (P)")
    name = f"{stem(source)}-{row}" if fibre is None else str(fibre["NAME"]).strip()
    flux = _row(hdus[0], row)
    if "WAVELENGTH" in _names(source):
        unit = str(head.card(hdus["WAVELENGTH"].header, "BUNIT") or "")
        log = head.truth(header, "LOGSCALE") is True
        wavelength = to_angstrom(_row(hdus["WAVELENGTH"], row), unit, f"image WAVELENGTH of {name}", log=log)
    else:
        wavelength = head.linear_wcs(header, flux.size, name=name)
    mjd, scale = middle_of_exposure(header)
    return make_spectrum(
        source, wavelength, flux, variance_to_ivar(_row(hdus["VARIANCE"], row)),
        air=not head.truth(header, "VACUUM"), frame="topocentric", hdu=item.hdu, row=row, object_id=name,
        ra=None if fibre is None else float(np.degrees(fibre["RA"])) % 360.0,
        dec=None if fibre is None else float(np.degrees(fibre["DEC"])),
        mjd=mjd, time_scale=scale, unit="counts",
    )  # fmt: skip


FORMATS = (
    Format(
        name="aaomega",
        record=Spectrum,
        description="2dF and AAOmega (2dfdr, Marz): flux, VARIANCE, FIBRES; air or vacuum, linear or logarithmic",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
