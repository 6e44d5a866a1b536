"""What headers of spectra say of wavelengths, frames, positions and times."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from astropy.io.fits import VerifyError

from transforms.attempt import Unusable
from transforms.constants import MJD_ZERO_JD

#: Length units as headers spell them, in Angstrom.
UNITS = {
    "angstrom": 1.0, "angstroms": 1.0, "ang": 1.0, "a": 1.0, "aa": 1.0, "0.1nm": 1.0, "0.1 nm": 1.0, "": 1.0,
    "nm": 10.0, "nanometer": 10.0, "nanometers": 10.0, "um": 1e4, "micron": 1e4, "microns": 1e4, "micrometer": 1e4,
    "mm": 1e7, "m": 1e10, "cm": 1e8,
}  # fmt: skip
_TRUE, _FALSE = {"T", "TRUE", "1", "YES"}, {"F", "FALSE", "0", "NO"}
#: The object's own position first, the telescope's last.
_POSITIONS = (
    ("PLUG_RA", "PLUG_DEC"),
    ("RA_OBJ", "DEC_OBJ"),
    ("OBJRA", "OBJDEC"),
    ("RA_TARG", "DEC_TARG"),
    ("RA", "DEC"),
)
#: CTYPE of spectral axes that are not wavelengths.
_NOT_WAVELENGTH = ("FREQ", "VRAD", "VELO", "VOPT", "ENER", "WAVN", "ZOPT", "BETA", "FELO")


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


def position(header: Any) -> tuple[float | None, float | None]:
    """Right ascension and declination of the object.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header.

    Returns
    -------
    ra, dec : float or None
        Degrees.
    """
    for first, second in _POSITIONS:
        ra, dec = degrees(card(header, first), hours=True), degrees(card(header, second), hours=False)
        if ra is not None and dec is not None:
            return ra % 360.0, dec
    return None, None


def degrees(value: Any, *, hours: bool) -> float | None:
    """Read an angle given in decimal degrees or as sexagesimal text.

    Parameters
    ----------
    value : Any
        ``"17:00:17.37"``, ``255.07`` or None.
    hours : bool
        Sexagesimal text is in hours, not degrees.

    Returns
    -------
    float or None
        Degrees; None where it makes no sense.
    """
    try:
        angle = float(value)
    except (TypeError, ValueError):
        parts = re.fullmatch(r"\s*([+-]?)(\d+)[:\s]+(\d+)[:\s]+(\d+(?:\.\d*)?)\s*", str(value))
        if not parts:
            return None
        sign, whole, minutes, seconds = parts.groups()
        angle = (float(whole) + float(minutes) / 60 + float(seconds) / 3600) * (15 if hours else 1)
        angle = -angle if sign == "-" else angle
    limits = (-360.0, 360.0) if hours else (-90.0, 90.0)
    return angle if limits[0] <= angle <= limits[1] else None


def middle_of_exposure(header: Any) -> tuple[float | None, str]:
    """Time of observation.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header.

    Returns
    -------
    mjd : float or None
        Middle of the exposure where the file gives it, else its start.
    time_scale : str
        ``"utc"``, ``"tai"`` or empty; heliocentric dates are given as they are, with an empty scale.
    """
    for name in ("MJD-MID", "MJD-AVG", "MJD-OBS", "EXPSTART", "UTMJD"):
        if (value := number(header, name)) is not None and 15_000 < value < 100_000:
            return value, "utc"
    for name in ("HJD", "JD", "HJDN", "BJD"):
        if (value := number(header, name)) is not None and value > MJD_ZERO_JD + 15_000:
            return value - MJD_ZERO_JD, "utc" if name == "JD" else ""
    text = str(card(header, "DATE-OBS", "DATE_OBS") or "").strip()
    clock = str(card(header, "UT", "UTSTART", "TIME-OBS", "UTC") or "").strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text) and re.fullmatch(r"\d\d?:\d\d:\d\d(\.\d*)?", clock):
        text = f"{text}T{clock}"
    if re.match(r"\d{4}-\d\d-\d\dT\d\d?:\d\d:\d\d", text):
        from astropy.time import Time

        try:
            return float(Time(text, format="isot", scale="utc").mjd), "utc"
        except ValueError:
            return None, ""
    return None, ""


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
    unit = str(card(header, f"CUNIT{axis}") or "").strip()
    if kind.startswith(_NOT_WAVELENGTH):
        raise Unusable(f"{name}: the spectral axis is {kind} in {unit or 'no unit'}, not wavelength")
    if unit.lower() not in UNITS:
        raise Unusable(f"{name}: wavelength unit {unit!r} is not known")
    first = number(header, f"CRVAL{axis}", f"COEFF{axis - 1}")
    step = number(header, f"CDELT{axis}", f"CD{axis}_{axis}", f"COEFF{axis}")
    if first is None or not step:
        raise Unusable(f"{name}: no wavelength solution (CRVAL{axis} is {first}, CDELT{axis} is {step})")
    reference = number(header, f"CRPIX{axis}")
    values = first + step * (np.arange(1, n + 1) - (1.0 if reference is None else reference))
    if is_log(header, values, kind):
        if values.max() > 9:
            raise Unusable(f"{name}: logarithmic wavelengths up to 10^{values.max():.4g} Angstrom")
        values = 10.0**values
    elif kind.startswith(("WAVE-LOG", "AWAV-LOG")):
        values = first * np.exp((values - first) / first)
    return values * UNITS[unit.lower()]


def is_log(header: Any, values: np.ndarray, kind: str) -> bool:
    """Say whether a wavelength axis holds log10 of the wavelength.

    Parameters
    ----------
    header : astropy.io.fits.Header
        DC-FLAG, LOGSCALE and CTYPE are looked at.
    values : ndarray
        The axis: no optical wavelength in Angstrom lies below 6.
    kind : str
        CTYPE in upper case.

    Returns
    -------
    bool
        True for log10.
    """
    if kind.startswith(("WAVE-LOG", "AWAV-LOG")):
        return False
    declared = number(header, "DC-FLAG") == 1 or truth(header, "LOGSCALE") is True or "LOG" in kind
    return bool((declared or values.min() > 2.5) and values.max() < 6)


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
