"""One-dimensional FITS spectra: flux in the first image, wavelength from a linear or logarithmic WCS.

MILES, Indo-US, STELIB and the like, and what IRAF and most reduction scripts write.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.readers import aperture_spectra, echelle_spectra, gaia_spectra, table_spectra, text_spectra
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_position import position
from transforms.readers.spectrum_record import MIN_PIXELS, error_to_ivar, make_spectrum, stem, variance_to_ivar
from transforms.readers.spectrum_time import middle_of_exposure
from transforms.readers.spectrum_units import to_angstrom
from transforms.records import Item, Spectrum

#: Libraries whose headers do not say what their papers say: keyword, value, (in air, frame).
_LIBRARIES = (("TPLLIB", "MILES", True, "rest"), ("TELESCOP", "KPCDF", True, "rest"))  # the second is Indo-US

_INDOUS_GAP = 1e-4  #: What Indo-US writes where it has no data (Valdes et al. 2004, ApJS 152, 251).


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
    return _is_line(source.hdus[index])


def _is_line(hdu: Any) -> bool:
    return bool(hdu.is_image and sum(n > 1 for n in hdu.shape) == 1 and max(hdu.shape) >= MIN_PIXELS)


def _items(source: Source) -> list[Item]:
    """The first image, and others of its name: a file with SCI 1, SCI 2, ... holds as many spectra."""
    first = source.hdus[first_data(source)]
    alike = [
        index
        for index, hdu in enumerate(source.hdus)
        if hdu is first or (hdu.name and hdu.name == first.name and _is_line(hdu))
    ]
    return [Item(file=source.file, format="fits_spectrum", hdu=str(index)) for index in alike]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(row=0, load=partial(_load, source, item))


def _load(source: Source, item: Item) -> Spectrum:
    index = int(item.hdu)
    hdu, primary = source.hdus[index], source.hdus[0].header
    header = hdu.header if index == 0 else ChainMap(hdu.header, primary)
    flux = np.ravel(np.asarray(hdu.data, dtype=np.float64))
    name = str(head.card(header, "OBJNAME", "OBJECT") or stem(source)).strip()
    if index != first_data(source):
        name = f"{name}-{hdu.ver}"
    planes = _planes(source, index, flux.size)
    wavelength = planes.get("wavelength")
    if wavelength is None:
        wavelength = head.linear_wcs(hdu.header if "CRVAL1" in hdu.header else header, flux.size, name=name)
    ra, dec = position(header)
    mjd, scale = middle_of_exposure(header)
    air, frame = head.in_air(header), head.frame(header)
    for key, value, library_air, library_frame in _LIBRARIES:
        if str(head.card(header, key)).strip().upper() == value:
            air, frame = library_air, library_frame
    mask = planes.get("mask")
    if str(head.card(header, "TELESCOP")).strip().upper() == "KPCDF":
        mask = np.isclose(flux, _INDOUS_GAP, rtol=1e-3, atol=0.0)
    return make_spectrum(
        source, wavelength, flux, planes.get("ivar"), mask, air=air, frame=frame,
        fwhm=head.spectral_width(header), hdu=item.hdu, object_id=name, ra=ra, dec=dec, mjd=mjd, time_scale=scale,
        unit=str(head.card(header, "BUNIT") or "").strip(), z_header=head.number(header, "Z", "REDSHIFT"),
    )  # fmt: skip


def _planes(source: Source, flux_hdu: int, n: int) -> dict[str, Any]:
    """Errors, masks and wavelengths in further extensions of the same length, by name; of several, the same version."""
    found: dict[str, Any] = {}
    version = source.hdus[flux_hdu].ver
    for index, hdu in enumerate(source.hdus):
        role = _ROLES.get(hdu.name.upper()) if index != flux_hdu else None
        if role is None or not hdu.is_image or hdu.data is None or hdu.data.size != n:
            continue
        name, convert = role
        if name not in found or hdu.ver == version:
            found[name] = convert(np.ravel(np.asarray(hdu.data, dtype=np.float64)), hdu)
    return found


def _wavelengths(values: np.ndarray, hdu: Any) -> np.ndarray:
    unit = str(head.card(hdu.header, "BUNIT", "CUNIT1") or "")
    return to_angstrom(values, unit, f"image {hdu.name}", log=hdu.name.upper().startswith("LOG"))


#: Names of extensions, what they hold, and how it becomes a plane. STAT is the variance of MUSE.
_ROLES: dict[str, tuple[str, Callable[[np.ndarray, Any], Any]]] = {
    **dict.fromkeys(("IVAR", "INVVAR"), ("ivar", lambda values, hdu: values)),
    **dict.fromkeys(
        ("ERR", "ERROR", "ERRS", "SIGMA", "STD", "UNCERT", "NOISE"), ("ivar", lambda values, hdu: error_to_ivar(values))
    ),
    **dict.fromkeys(("VAR", "VARIANCE", "STAT"), ("ivar", lambda values, hdu: variance_to_ivar(values))),
    **dict.fromkeys(("MASK", "DQ", "FLAGS", "QUAL", "QUALITY"), ("mask", lambda values, hdu: values != 0)),
    **dict.fromkeys(("WAVE", "WAVELENGTH", "LAMBDA", "LOGLAM"), ("wavelength", _wavelengths)),
}


FORMATS = (
    *gaia_spectra.FORMATS,
    *echelle_spectra.FORMATS,
    *aperture_spectra.FORMATS,
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
