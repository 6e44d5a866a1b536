"""The middle of a spectrum's exposure, from the many ways in which headers tell it."""

from __future__ import annotations

import re
from typing import Any

from transforms.constants import MJD_ZERO_JD
from transforms.readers.spectrum_header import card, comment, number

#: Cards of MJD, the best first: the middle itself, the two ends, the start alone.
_MIDDLES = ("MJD-MID", "MJD_MID", "MJD-AVG", "TMID", "EXPMID")
_ENDS = (("MJD-OBS", "MJD-END"), ("MJD-BEG", "MJD-END"), ("EXPSTART", "EXPEND"))
_STARTS = ("MJD-OBS", "MJD-BEG", "EXPSTART", "UTMJD")
_JULIAN = ("HJD", "JD", "HJDN", "BJD")
_DURATIONS = ("EXPTIME", "EXPOSED", "TEXPTIME", "EXP_TIME")  #: Seconds. EXPOSURE is often a running number.
_MJD = (15_000.0, 100_000.0)
_SCALES = {"": "utc", "UTC": "utc", "UT": "utc", "UT1": "utc", "TAI": "tai", "TT": "tt", "TDT": "tt", "TDB": "tdb"}
_IS_MIDDLE = re.compile(r"\bmid|median|\bmean|average|cent(er|re)\b", re.IGNORECASE)


def middle_of_exposure(header: Any) -> tuple[float | None, str]:
    """Time of observation.

    Parameters
    ----------
    header : astropy.io.fits.Header or mapping
        The header, or several chained.

    Returns
    -------
    mjd : float or None
        Middle of the exposure: as stated, or between its two ends, or its start and half of its duration; the start
        where the header gives no duration.
    time_scale : str
        ``"utc"``, ``"tai"``, ``"tt"``, ``"tdb"``, or empty for a TIMESYS that is none of these; heliocentric dates
        are given as they are, with an empty scale.
    """
    scale = _SCALES.get(str(card(header, "TIMESYS") or "").strip().upper(), "")
    for name in _MIDDLES:
        if (middle := _mjd(header, name)) is not None:
            return middle, scale
    for first, last in _ENDS:
        begin, end = _mjd(header, first), _mjd(header, last)
        if begin is not None and end is not None and end >= begin and not _says_middle(header, first):
            return 0.5 * (begin + end), scale
    for name in _STARTS:
        if (begin := _mjd(header, name)) is not None:
            return begin + _half(header, name), scale
    for name in _JULIAN:
        if (value := number(header, name)) is not None and value > MJD_ZERO_JD + _MJD[0]:
            return value - MJD_ZERO_JD, scale if name == "JD" else ""
    begin = _date(header)
    return (None, "") if begin is None else (begin + _half(header, "DATE-OBS"), scale)


def duration(header: Any) -> float | None:
    """Exposure time.

    Parameters
    ----------
    header : astropy.io.fits.Header or mapping
        The header.

    Returns
    -------
    float or None
        Seconds.
    """
    seconds = number(header, *_DURATIONS)
    return seconds if seconds is not None and 0 < seconds < 1e6 else None


def _mjd(header: Any, name: str) -> float | None:
    value = number(header, name)
    return value if value is not None and _MJD[0] < value < _MJD[1] else None


def _says_middle(header: Any, name: str) -> bool:
    return bool(_IS_MIDDLE.search(comment(header, name)))


def _half(header: Any, name: str) -> float:
    """Half of the exposure in days, or nothing where the card's comment says that it is the middle (LAMOST)."""
    return 0.0 if _says_middle(header, name) else 0.5 * (duration(header) or 0.0) / 86_400.0


def _date(header: Any) -> float | None:
    text = str(card(header, "DATE-OBS", "DATE_OBS") or "").strip()
    clock = str(card(header, "UT", "UTSTART", "TIME-OBS", "UTC") or "").strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text) and re.fullmatch(r"\d\d?:\d\d:\d\d(\.\d*)?", clock):
        text = f"{text}T{clock}"
    if not re.match(r"\d{4}-\d\d-\d\dT\d\d?:\d\d:\d\d", text):
        return None
    from astropy.time import Time

    try:
        return float(Time(text.rstrip("Z"), format="isot", scale="utc").mjd)
    except ValueError:
        return None
