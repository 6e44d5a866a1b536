"""One-dimensional FITS spectra: flux in the first image, wavelength from a linear or logarithmic WCS.

MILES, Indo-US, STELIB and the like, and what IRAF and most reduction scripts write.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.readers import echelle_spectra, gaia_spectra, table_spectra, text_spectra
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_record import MIN_PIXELS, error_to_ivar, make_spectrum, stem, variance_to_ivar
from transforms.records import Item, Spectrum

#: Libraries whose headers do not say what their papers say: keyword, value, (in air, frame).
_LIBRARIES = (("TPLLIB", "MILES", True, "rest"), ("TELESCOP", "KPCDF", True, "rest"))  # the second is Indo-US


def first_data(source: Source) -> int | None:
    """Index of the first HDU that holds data.

    Parameters
    ----------
    source : Source
        A FITS file.

    Returns
    -------
    int or None
        None where no HDU does.
    """
    for index, hdu in enumerate(source.hdus):
        if hdu.header.get("NAXIS", 0) and all(hdu.header.get(f"NAXIS{k + 1}", 0) for k in range(hdu.header["NAXIS"])):
            return index
    return None


def _sniff(source: Source) -> bool:
    if not source.is_fits or (index := first_data(source)) is None:
        return False
    hdu = source.hdus[index]
    return bool(hdu.is_image and sum(n > 1 for n in hdu.shape) == 1 and max(hdu.shape) >= MIN_PIXELS)


def _items(source: Source) -> list[Item]:
    return [Item(file=source.file, format="fits_spectrum", hdu=str(first_data(source)))]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(row=0, load=partial(_load, source, item))


def _load(source: Source, item: Item) -> Spectrum:
    hdu = source.hdus[int(item.hdu)]
    header = hdu.header
    flux = np.ravel(np.asarray(hdu.data, dtype=np.float64))
    name = str(head.card(header, "OBJNAME", "OBJECT") or stem(source)).strip()
    planes = _planes(source, int(item.hdu), flux.size)
    wavelength = planes.get("wavelength")
    if wavelength is None:
        wavelength = head.linear_wcs(header, flux.size, name=name)
    ra, dec = head.position(header)
    mjd, scale = head.middle_of_exposure(header)
    air, frame = head.in_air(header), head.frame(header)
    for key, value, library_air, library_frame in _LIBRARIES:
        if str(head.card(header, key)).strip().upper() == value:
            air, frame = library_air, library_frame
    return make_spectrum(
        source, wavelength, flux, planes.get("ivar"), planes.get("mask"), air=air, frame=frame,
        fwhm=head.number(header, "FWHM"), hdu=item.hdu, object_id=name, ra=ra, dec=dec, mjd=mjd, time_scale=scale,
        unit=str(head.card(header, "BUNIT") or "").strip(), z_header=head.number(header, "Z", "REDSHIFT"),
    )  # fmt: skip


def _planes(source: Source, flux_hdu: int, n: int) -> dict[str, Any]:
    """Errors, masks and wavelengths in further extensions of the same length, by name of the extension."""
    found: dict[str, Any] = {}
    for index, hdu in enumerate(source.hdus):
        if index == flux_hdu or not hdu.is_image or hdu.data is None or hdu.data.size != n:
            continue
        values = np.ravel(np.asarray(hdu.data, dtype=np.float64))
        name = hdu.name.upper()
        if name in {"IVAR", "INVVAR"}:
            found["ivar"] = values
        elif name in {"ERR", "ERROR", "ERRS", "SIGMA", "STD", "UNCERT", "NOISE"}:
            found["ivar"] = error_to_ivar(values)
        elif name in {"VAR", "VARIANCE"}:
            found["ivar"] = variance_to_ivar(values)
        elif name in {"MASK", "DQ", "FLAGS", "QUAL"}:
            found["mask"] = values != 0
        elif name in {"WAVE", "WAVELENGTH", "LAMBDA"}:
            found["wavelength"] = 10.0**values if values.max() < 6 else values
    return found


FORMATS = (
    *gaia_spectra.FORMATS,
    *echelle_spectra.FORMATS,
    *table_spectra.FORMATS,
    *text_spectra.FORMATS,
    Format(
        name="fits_spectrum",
        record=Spectrum,
        description="FITS, one-dimensional image with a linear or logarithmic wavelength axis (MILES, Indo-US, STELIB)",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
