"""What headers of spectra say: cards, wavelengths, air or vacuum, frames."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from astropy.io.fits import VerifyError

from transforms.attempt import Unusable
from transforms.readers.spectrum_units import length_unit, to_angstrom

_TRUE, _FALSE = {"T", "TRUE", "1", "YES"}, {"F", "FALSE", "0", "NO"}
#: Telescopes above the air whose archives give vacuum throughout.
_SPACE = {"HST", "JWST", "FUSE", "SPITZER", "GALEX", "EUCLID", "HERSCHEL"}
#: CTYPE of spectral axes that are not wavelengths.
_NOT_WAVELENGTH = ("FREQ", "VRAD", "VELO", "VOPT", "ENER", "WAVN", "ZOPT", "BETA", "FELO", "PIXEL")


def card(header: Any, *names: str) -> Any:
    """Value of the first of several keywords that can be parsed and is not blank.

    Parameters
    ----------
    header : astropy.io.fits.Header
        May hold damaged cards, which count as absent.
    *names : str
        Keywords, the best first.

    Returns
    -------
    Any
        The value, or None.
    """
    for name in names:
        try:
            value = header.get(name)
        except (VerifyError, ValueError, KeyError):  # a damaged card
            continue
        if value is not None and str(value).strip():
            return value
    return None


def comment(header: Any, name: str) -> str:
    """Comment of a card.

    Parameters
    ----------
    header : astropy.io.fits.Header or mapping
        The header, or several chained.
    name : str
        Keyword.

    Returns
    -------
    str
        Empty where there is none.
    """
    for part in getattr(header, "maps", [header]):
        try:
            if name in part:
                return str(part.comments[name])
        except (VerifyError, ValueError, KeyError, AttributeError):  # a damaged card, or a mapping without comments
            continue
    return ""


def number(header: Any, *names: str) -> float | None:
    """Value of the first of several keywords that holds a finite number.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header.
    *names : str
        Keywords, the best first.

    Returns
    -------
    float or None
        None where none does.
    """
    for name in names:
        try:
            value = float(card(header, name))
        except (TypeError, ValueError):
            continue
        if np.isfinite(value):
            return value
    return None


def truth(header: Any, *names: str) -> bool | None:
    """Value of the first of several keywords that says yes or no.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header.
    *names : str
        Keywords, the best first.

    Returns
    -------
    bool or None
        None where none does.
    """
    for name in names:
        text = str(card(header, name)).strip().upper()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
    return None


def linear_wcs(header: Any, n: int, axis: int = 1, name: str = "spectrum") -> np.ndarray:
    """Wavelength of the pixels from a linear or logarithmic world coordinate system.

    Parameters
    ----------
    header : astropy.io.fits.Header
        With CRVALn and CDELTn or CDn_n.
    n : int
        Number of pixels.
    axis : int
        FITS axis of wavelength.
    name : str
        For messages.

    Returns
    -------
    ndarray of float64, shape (n,)
        Angstrom, in air or vacuum as the file has it.

    Raises
    ------
    Unusable
        Where there is no wavelength solution, or the axis is something else.
    """
    kind = str(card(header, f"CTYPE{axis}") or "").upper()
    unit = axis_unit(header, axis)
    if kind.startswith(_NOT_WAVELENGTH):
        raise Unusable(f"{name}: the spectral axis is {kind} in {unit or 'no unit'}, not wavelength")
    if number(header, "DC-FLAG") == -1:
        raise Unusable(f"{name}: DC-FLAG is -1: the pixels were not calibrated in wavelength")
    first = number(header, f"CRVAL{axis}", f"COEFF{axis - 1}")
    step = _step(header, axis, name)
    if first is None or not step:
        raise Unusable(f"{name}: no wavelength solution (CRVAL{axis} is {first}, CDELT{axis} is {step})")
    reference = number(header, f"CRPIX{axis}")
    values = first + step * (np.arange(1, n + 1) - (1.0 if reference is None else reference))
    if kind.startswith(("WAVE-LOG", "AWAV-LOG")):  # FITS paper III: natural logarithm about the reference pixel
        return to_angstrom(first * np.exp((values - first) / first), unit, f"axis {axis} of {name}")
    log = number(header, "DC-FLAG") == 1 or truth(header, "LOGSCALE") is True or "LOG" in kind
    return to_angstrom(values, unit, f"axis {axis} of {name}", log=log)


def _step(header: Any, axis: int, name: str) -> float | None:
    """CDn_n goes before CDELTn, which then does not count (FITS paper I); but a CD of 1 is IRAF's word for nothing."""
    cd, cdelt = number(header, f"CD{axis}_{axis}"), number(header, f"CDELT{axis}")
    if cd == 1.0 and cdelt not in (None, 0.0, 1.0):
        raise Unusable(f"{name}: CD{axis}_{axis} is 1 and CDELT{axis} is {cdelt}: two steps of wavelength")
    if cdelt is not None:
        cdelt *= number(header, f"PC{axis}_{axis}") or 1.0
    return cd or cdelt or number(header, f"COEFF{axis}")


def axis_unit(header: Any, axis: int = 1) -> str:
    """Unit of an axis: CUNITn, else what IRAF's WATn_001 says, else a unit in brackets in CRVALn's comment.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header.
    axis : int
        FITS axis.

    Returns
    -------
    str
        As the file spells it; empty where it states none.
    """
    if unit := str(card(header, f"CUNIT{axis}") or "").strip():
        return unit
    found = re.search(r"\bunits=\s*(\S+)", str(card(header, f"WAT{axis}_001") or ""))
    if found is None:
        found = re.match(r"\s*\[([^\]]+)\]", comment(header, f"CRVAL{axis}"))
    return found.group(1).strip() if found and length_unit(found.group(1)) else ""


def spectral_width(header: Any) -> float | None:
    """Width of the line-spread function.

    Parameters
    ----------
    header : astropy.io.fits.Header
        With FWHM, which in many files is the seeing: the comment must say that it is spectral.

    Returns
    -------
    float or None
        Full width at half maximum in Angstrom; None where the header does not give it.
    """
    spectral = re.search(r"resol|angstrom|spectral|lsf|dispersion", comment(header, "FWHM"), re.IGNORECASE)
    width = number(header, "FWHM")
    return width if spectral and width is not None and width > 0 else None


def in_air(header: Any, axis: int = 1) -> bool | None:
    """Say whether the wavelengths are in air.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header.
    axis : int
        FITS axis of wavelength.

    Returns
    -------
    bool or None
        None where the header does not say.
    """
    vacuum = truth(header, "VACUUM", "VACWAVE", "ISVACUUM")
    if vacuum is not None:
        return not vacuum
    if str(card(header, "TELESCOP") or "").strip().upper() in _SPACE:
        return False
    kind = str(card(header, f"CTYPE{axis}") or "").upper()
    if kind.startswith("AWAV"):
        return True
    if kind.startswith("WAVE-") or kind == "WAVE":
        return False  # FITS paper III: WAVE is vacuum, AWAV air
    air = str(card(header, "AIRORVAC") or "").lower()
    return {"air": True, "vac": False}.get(air[:3])


def frame(header: Any) -> str:
    """Reference frame of the wavelengths.

    Parameters
    ----------
    header : astropy.io.fits.Header
        SPECSYS, HELIO, HELIO_RV and the like are looked at.

    Returns
    -------
    str
        As in ``Spectrum.frame``; empty where the header does not say.
    """
    system = str(card(header, "SPECSYS") or "").upper()
    if system in {"HELIOCEN", "BARYCENT", "TOPOCENT"}:
        return {"HELIOCEN": "heliocentric", "BARYCENT": "barycentric", "TOPOCENT": "topocentric"}[system]
    helio = truth(header, "HELIO", "HELIOCOR")
    if helio is not None:
        return "heliocentric" if helio else "topocentric"
    return "heliocentric" if number(header, "HELIO_RV") is not None else ""
