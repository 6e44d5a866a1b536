"""Where a spectrum's object lies: the position of a header or a row, brought to ICRS."""

from __future__ import annotations

import re
from typing import Any

from transforms.readers.spectrum_header import card, comment, number

#: The object's own position first, the telescope's last.
_POSITIONS = (
    ("PLUG_RA", "PLUG_DEC"),
    ("RA_OBJ", "DEC_OBJ"),
    ("OBJRA", "OBJDEC"),
    ("SRCRA", "SRCDEC"),
    ("RA_TARG", "DEC_TARG"),
    ("TARG_RA", "TARG_DEC"),
    ("RA", "DEC"),
)


def position(header: Any, system: Any = None) -> tuple[float | None, float | None]:
    """Right ascension and declination of the object.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header.
    system : mapping, optional
        Where RADESYS and EQUINOX are looked for, if not in the same header.

    Returns
    -------
    ra, dec : float or None
        ICRS, degrees; None where the header does not give a position, or not one of a system that we can tell.
    """
    for first, second in _POSITIONS:
        ra, dec = degrees(card(header, first), hours=True), degrees(card(header, second), hours=False)
        if ra is not None and dec is not None:
            if re.search(r"\bhours?\b|\[h", comment(header, first), re.IGNORECASE) and _is_decimal(card(header, first)):
                ra *= 15.0
            return to_icrs(ra, dec, header if system is None else system)
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


def _is_decimal(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def to_icrs(ra: float, dec: float, header: Any) -> tuple[float | None, float | None]:
    """Precess a position by what the header says of its system.

    Parameters
    ----------
    ra, dec : float
        Degrees.
    header : mapping
        RADESYS, EQUINOX and EPOCH are looked at. EPOCH was once the name of the equinox and is the date of the
        observation in other files: 1950 and 2000 are equinoxes, and of others nobody can tell.

    Returns
    -------
    ra, dec : float or None
        ICRS, degrees; None for apparent places and for an EPOCH that may be either.
    """
    frame = str(card(header, "RADESYS", "RADECSYS") or "").strip().upper()
    equinox, epoch = _year(card(header, "EQUINOX")), _year(card(header, "EPOCH"))
    if frame == "ICRS":
        return ra % 360.0, dec
    if frame == "GAPPT":
        return None, None
    if equinox is None and frame not in {"FK4", "FK5"} and epoch not in {None, 1950.0, 2000.0}:
        return None, None
    year = equinox or (epoch if epoch in {1950.0, 2000.0} else None) or (1950.0 if frame.startswith("FK4") else 2000.0)
    old = frame.startswith("FK4") or (frame != "FK5" and year == 1950.0)
    if not old and year == 2000.0:  # within 0.03 arcsec of ICRS
        return ra % 360.0, dec
    from astropy.coordinates import FK4, FK5, FK4NoETerms, SkyCoord

    system = FK5(equinox=f"J{year}")
    if old:
        system = (FK4NoETerms if frame == "FK4-NO-E" else FK4)(equinox=f"B{year}")
    place = SkyCoord(ra, dec, unit="deg", frame=system).icrs
    return float(place.ra.deg), float(place.dec.deg)


def _year(value: Any) -> float | None:
    """Year of ``2000.0``, ``"J2000"`` or ``"B1950.0"``."""
    year = number({"year": str(value).strip().upper().lstrip("JB")}, "year")
    return year if year is not None and 1800 < year < 2200 else None
