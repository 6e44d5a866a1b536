"""Spectra of many fibres or apertures as the rows of one image, all on one wavelength axis (IRAF's EQUISPEC).

An image whose first axis is a wavelength is no picture of the sky. Its rows are spectra where the header says that
they were extracted; rows along a slit that nobody extracted are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.echelle_spectra import sigma_band
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_position import position
from transforms.readers.spectrum_record import MIN_PIXELS, error_to_ivar, make_spectrum, row_items, stem
from transforms.readers.spectrum_time import middle_of_exposure
from transforms.records import Item, Spectrum

#: Units of axes that can't be lengths on a detector.
_WAVELENGTHS = {"angstrom", "angstroms", "ang", "a", "aa", "nm"}


def _first_image(source: Source) -> int | None:
    return next((k for k, hdu in enumerate(source.hdus) if hdu.is_image and hdu.header.get("NAXIS", 0)), None)


def _is_extracted(header: Any) -> bool:
    system = str(head.card(header, "WAT0_001") or "").lower()
    return "equispec" in system or "APNUM1" in header or "BANDID1" in header


def _is_slit(header: Any) -> bool:
    angle = str(head.card(header, "CUNIT2") or "").strip().lower() in {"arcsec", "deg"}
    return ("DISPAXIS" in header or angle) and not _is_extracted(header)


def _is_spectral(header: Any) -> bool:
    kind = str(head.card(header, "CTYPE1") or "").strip().upper()
    if kind in {"LAMBDA", "WAVELENGTH"}:  # the reader of images knows that such a slit is no sky, and says so
        return not _is_slit(header)
    if kind == "LOG-LINEAR":
        return True
    stated = head.number(header, "DC-FLAG") in (0, 1) or head.axis_unit(header).lower() in _WAVELENGTHS
    return kind in {"", "LINEAR"} and (stated or _is_extracted(header))


def _sniff(source: Source) -> bool:
    if not source.is_fits or (index := _first_image(source)) is None:
        return False
    hdu = source.hdus[index]
    if hdu.shape[-1] < MIN_PIXELS or len(hdu.shape) not in (2, 3):
        return False
    return _is_spectral(hdu.header) and (len(hdu.shape) == 2 or _is_extracted(hdu.header))  # or it is a cube


def _items(source: Source) -> list[Item]:
    index = _first_image(source)
    hdu = source.hdus[index]
    if _is_slit(hdu.header):
        raise Unusable(f"{source.file.source}: {hdu.shape[-2]} rows along a slit, from which no spectrum was extracted")
    return row_items(source, "fits_spectrum_rows", str(index), hdu.shape[-2])


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    for row in range(item.start, item.stop):
        yield Entry(row=row, load=partial(_load, source, item, row))


def _load(source: Source, item: Item, row: int) -> Spectrum:
    hdu = source.hdus[int(item.hdu)]
    header, data = hdu.header, hdu.data
    name = str(head.card(header, "OBJECT", "OBJNAME") or stem(source)).strip()
    if data.shape[-2] > 1:
        name = str(head.card(header, f"APID{row + 1}") or f"{name}-{row + 1}").strip()
    flux = np.asarray(data[row] if data.ndim == 2 else data[0, row], dtype=np.float64)  # the first band is the spectrum
    sigma = sigma_band(header, data)
    single = data.shape[-2] == 1
    ra, dec = position(header) if single else (None, None)  # of many objects the header knows the field alone
    mjd, scale = middle_of_exposure(header)
    return make_spectrum(
        source, head.linear_wcs(header, flux.size, name=name), flux,
        None if sigma is None else error_to_ivar(sigma[row]), air=head.in_air(header), frame=head.frame(header),
        hdu=item.hdu, row=row, object_id=name, ra=ra, dec=dec, mjd=mjd, time_scale=scale,
        unit=str(head.card(header, "BUNIT") or "").strip(),
    )  # fmt: skip


FORMATS = (
    Format(
        name="fits_spectrum_rows",
        record=Spectrum,
        description="FITS image of which each row is a spectrum on one axis (IRAF EQUISPEC, onedspec with bands)",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
