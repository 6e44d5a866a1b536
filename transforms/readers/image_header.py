"""What a FITS image says of itself: time, filter, gain, saturation, seeing and the zero point of its unit."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NJY_ZERO_POINT = 31.4  #: AB magnitude of 1 nJy (Oke & Gunn 1983; 3631 Jy at magnitude 0).
SCALES = ("utc", "tai", "tt", "tdb")
COUNTS = re.compile(r"(adu|dns?|counts?|data\s*numbers?|electrons?|e-?)(\s*/\s*s(ec|econd)?|\s+s-1|\s*s\^?-1)?\Z", re.I)
LEAST_SETTING = 20  #: From here on a whole number in GAIN is rather the setting of a camera's driver than e-/ADU.
_JANSKY = {"jy": 1e9, "mjy": 1e6, "ujy": 1e3, "njy": 1.0, "nanomaggy": 3631.0, "nanomaggies": 3631.0, "maggy": 3.631e12}
#: What is not scaled away would have an inverse variance beyond float32: 1e-17 is the habit of spectra.
TINY, _TINY_UNIT = 1e-17, re.compile(r"(ergs?|W)\b.*m", re.I)
#: Keyword of an AB zero point, the instrument that means it so, and whether it is that of a count a second: NOAO's
#: community pipeline, ZTF (for its mean colour term), Pan-STARRS.
_ZERO_POINTS = (("MAGZERO", "", False), ("MAGZP", "ZTF", False), ("FPA.ZP", "", True))
_DUMMY_DATE = 51544.4992  #: J2000 itself, which the LSST stack writes on coadds that have no date.


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was found in the headers of one image; None or empty where they are silent.

    Parameters
    ----------
    mjd : float or None
        Middle of the exposure.
    time_scale : str
        Scale of ``mjd``.
    band : str
        Filter.
    exptime : float or None
        Seconds.
    unit : str
        ``"nJy"`` where the pixels can be brought to it, else the file's own.
    factor : float
        Pixel value times this is in ``unit``.
    zero_point : float or None
        AB magnitude of one ``unit``.
    gain : float or None
        Electrons per ``unit``.
    saturation : float or None
        In ``unit``.
    psf_fwhm : float or None
        Pixels.
    """

    mjd: float | None
    time_scale: str
    band: str
    exptime: float | None
    unit: str
    factor: float
    zero_point: float | None
    gain: float | None
    saturation: float | None
    psf_fwhm: float | None


class Cards:
    """Look-up in the header of an extension first and the primary header after it.

    Parameters
    ----------
    *headers : astropy.io.fits.Header
        In the order in which they are asked.
    """

    def __init__(self, *headers: Any) -> None:
        self.headers = headers

    def number(self, *names: str) -> float | None:
        """Find the first keyword with a finite number.

        Parameters
        ----------
        *names : str
            Keywords, the best first.

        Returns
        -------
        float or None
            Strings that hold a number count.
        """
        for name in names:
            for header in self.headers:
                value = _get(header, name)
                try:
                    number = float(value) if not isinstance(value, bool) else math.nan
                except (TypeError, ValueError):
                    continue
                if math.isfinite(number):
                    return number
        return None

    def text(self, *names: str) -> str:
        """Find the first keyword with text.

        Parameters
        ----------
        *names : str
            Keywords, the best first.

        Returns
        -------
        str
            Stripped; empty where there is none.
        """
        for name in names:
            for header in self.headers:
                value = _get(header, name)
                if value is not None and not isinstance(value, bool) and str(value).strip():
                    return str(value).strip()
        return ""

    def starting(self, prefix: str) -> list[str]:
        """List the keywords that begin with something.

        Parameters
        ----------
        prefix : str
            Upper case.

        Returns
        -------
        list of str
            In the order of the first header that has any.
        """
        found = ([key for key in header if key.startswith(prefix)] for header in self.headers)
        return next(filter(None, found), [])


def _get(header: Any, name: str) -> Any:
    from astropy.io.fits.verify import VerifyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a card that breaks the standard is read as well as can be
            return header.get(name)
    except (VerifyError, ValueError):
        return None


def image_facts(headers: Sequence[Any], pixel_scale: float | None) -> ImageFacts:
    """Read the headers of one image.

    Parameters
    ----------
    headers : sequence of astropy.io.fits.Header
        Of the extension, then of the primary HDU.
    pixel_scale : float or None
        arcsec per pixel, to turn a seeing in arcsec into pixels.

    Returns
    -------
    ImageFacts
        What is stated; nothing is guessed.
    """
    cards = Cards(*headers)
    exptime = cards.number("EXPTIME", "EXPOSURE", "XPOSURE", "ITIME", "TEXPTIME")
    exptime = exptime if exptime is not None and exptime > 0 else None
    mjd, scale = _middle(cards, exptime)
    unit = cards.text("BUNIT")
    is_counts = not unit or COUNTS.match(unit) is not None
    is_rate = is_counts and bool(re.search(r"/\s*s|s\^?-1", unit, re.I))
    zero_point = _zero_point(cards, unit, is_rate, exptime)
    factor, shown = 1.0, unit or "adu"
    if zero_point is not None:
        factor, shown = 10 ** (0.4 * (NJY_ZERO_POINT - zero_point)), "nJy"
    elif _TINY_UNIT.match(unit):
        factor, shown = 1 / TINY, f"{TINY:g} {unit}"
    per_second = exptime if is_rate else 1.0
    gain = _gain(cards, unit) if is_counts else None
    saturation = cards.number("SATURATE", "SATURATA", "SATLEVEL") if is_counts else None
    if per_second is None:
        gain = saturation = None
    return ImageFacts(
        mjd=mjd,
        time_scale=scale,
        band=_band(cards),
        exptime=exptime,
        unit=shown,
        factor=factor,
        zero_point=None if zero_point is None else NJY_ZERO_POINT,
        gain=None if gain is None or per_second is None else gain * per_second / factor,
        saturation=None if not saturation or per_second is None else saturation / per_second * factor,
        psf_fwhm=_seeing(cards, pixel_scale),
    )


def _middle(cards: Cards, exptime: float | None) -> tuple[float | None, str]:
    system = cards.text("TIMESYS").lower()[:3].strip()
    scale = next((name for name in SCALES if system.startswith(name)), "utc")
    start, end = cards.number("EXPSTART"), cards.number("EXPEND")
    if start is not None and end is not None and 0 < start <= end:
        return (start + end) / 2, scale
    middle = _with_time(cards.number("MJD-AVG", "MJD-MID", "MJDMID"))
    if middle is None:
        middle = _date(cards.text("DATE-AVG"), "", scale)
    if middle is None:
        middle = _with_time(cards.number("MJD"))
    begin = _with_time(cards.number("MJD-OBS", "MJD-BEG", "MJD_OBS", "OBSMJD"))
    if begin is None:
        begin = _date(
            cards.text("DATE-OBS", "DATE-BEG"), cards.text("TAIHMS", "TIME-OBS", "UTC-OBS", "UT", "UTSTART"), scale
        )
    if middle is None and begin is not None:
        middle = begin + (exptime or 0.0) / 172800
    if middle is None or not 10000 < middle < 100000 or abs(middle - _DUMMY_DATE) < 1e-4:
        return None, ""
    return middle, scale


def _with_time(mjd: float | None) -> float | None:
    """A whole number was made from a date without a time of day."""
    return None if mjd is None or mjd == math.floor(mjd) else mjd


def _date(date: str, clock: str, scale: str) -> float | None:
    """MJD of an ISO date with its time of day; a date alone is half a day wrong on the average and counts as none."""
    from astropy.time import Time

    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) and re.match(r"\d{1,2}:\d{2}", clock):
        date = f"{date}T{clock.split()[0]}"
    if not re.match(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}", date):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "dubious year" of leap seconds to come
            return float(Time(date.rstrip("Z"), format="isot", scale=scale).mjd)
    except ValueError:
        return None


def _band(cards: Cards) -> str:
    if re.fullmatch(r"F\d{3,4}[A-Z]\d?", cards.text("PUPIL")):  # JWST: a narrow filter stands before a wide one
        return cards.text("PUPIL")
    for name in ("BAND", "FILTER", "FILTER1", "FILTER2", "FILTNAM1", "FILTNAM"):
        value = cards.text(name)
        if value and not value.upper().startswith(("CLEAR", "NONE", "N/A")):
            if name == "BAND" and value.isdigit():
                return f"W{value}" if cards.text("UNW_VER", "TELESCOP").startswith(("v", "WISE")) else value
            return value.split()[0]
    return cards.text("FPA.FILTER").split(".")[0]  # Pan-STARRS: "i.00000"


def _zero_point(cards: Cards, unit: str, is_rate: bool, exptime: float | None) -> float | None:
    """AB magnitude of one pixel unit. Vega zero points (2MASS, WISE: MAGZP) are no AB ones and count as unknown."""
    scale = _JANSKY.get(unit.lower().replace("mujy", "ujy"))
    if scale is not None and not (unit[:1] == "M" and unit.lower() == "mjy"):
        return NJY_ZERO_POINT - 2.5 * math.log10(scale)
    steradian = cards.number("PIXAR_SR")  # JWST: the area of a pixel
    if unit.lower() == "mjy/sr" and unit[:1] == "M" and steradian is not None and steradian > 0:
        return NJY_ZERO_POINT - 2.5 * math.log10(1e15 * steradian)
    if re.match(r"ergs?\b.*hz((\^|\*\*)?-1)?\Z", unit, re.I) and not re.search(r"sr|arcsec|as2", unit, re.I):
        return -48.6  # the definition of AB magnitudes
    if unit and COUNTS.match(unit) is None:
        return None
    magnitude, of_rate = _stated_magnitude(cards)
    if magnitude is None or not of_rate or is_rate:
        return magnitude
    return None if exptime is None else magnitude + 2.5 * math.log10(exptime)


def _stated_magnitude(cards: Cards) -> tuple[float | None, bool]:
    """AB magnitude of one count of the image, or of one count a second (then True)."""
    reference = cards.number("FLUXMAG0")  # LSST stack: counts of magnitude zero
    if reference is not None and reference > 0:
        return 2.5 * math.log10(reference), False
    for keyword, instrument, of_rate in _ZERO_POINTS:
        magnitude = cards.number(keyword)
        if magnitude is not None and 10 < magnitude < 40 and cards.text("INSTRUME").startswith(instrument):
            return magnitude, of_rate
    photflam, photplam = cards.number("PHOTFLAM"), cards.number("PHOTPLAM")  # HST, for one electron a second
    if photflam is None or photplam is None or photflam <= 0 or photplam <= 0:
        return None, False
    return -2.5 * math.log10(photflam) - 5 * math.log10(photplam) - 2.408, True


def _gain(cards: Cards, unit: str) -> float | None:
    if unit.lower().startswith("e"):
        return 1.0
    stated = _positive(cards, "EGAIN")
    if stated is not None:
        return stated
    gain = _positive(cards, "GAIN")
    if gain is not None:
        return None if _is_setting(cards, gain) else gain
    gain = _positive(cards, "CCDGAIN", "CELL.GAIN")
    pair = [value for value in (_positive(cards, "GAINA"), _positive(cards, "GAINB")) if value is not None]
    return gain if gain is not None or not pair else sum(pair) / len(pair)


def _positive(cards: Cards, *names: str) -> float | None:
    values = (cards.number(name) for name in names)
    return next((value for value in values if value is not None and value > 0), None)


def _is_setting(cards: Cards, gain: float) -> bool:
    """Cameras of amateurs write the setting of their driver into GAIN (0 to some hundred), beside that of OFFSET."""
    has_settings = cards.number("OFFSET") is not None and cards.number("XPIXSZ") is not None
    return has_settings or (gain >= LEAST_SETTING and gain == math.floor(gain))


def _seeing(cards: Cards, pixel_scale: float | None) -> float | None:
    pixels = cards.number("PSF_FWHM", "FWHM")
    if pixels is None:
        arcsec = cards.number("SEEING")
        pixels = arcsec / pixel_scale if arcsec is not None and pixel_scale else None
    return pixels if pixels is not None and 1 <= pixels <= 30 else None
