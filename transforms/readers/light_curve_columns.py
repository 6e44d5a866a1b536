"""Which column of a table is time, brightness, error, band and object: by known names, or as the user declared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transforms.attempt import Unusable

#: Known names in lower case, the surest first.
NAMES: dict[str, tuple[str, ...]] = {
    "time": ("mjd", "bjd", "hjd", "jd", "bjd_tdb", "time", "midpointmjdtai", "midpointtai", "obsmjd", "expmjd", "t",
             "bjd - 2454833", "bjd - 2457000", "hmjd", "date_mjd", "obs_time", "times"),
    "magnitude": ("mag", "magnitude", "mag_auto", "magpsf", "psfmag", "calib_mag", "magnitudes", "vmag", "mag_iso"),
    "flux": ("psfflux", "flux", "fluxcal", "flux_nanojansky", "forcediffimflux", "pdcsap_flux", "sap_flux",
             "corrected flux", "raw flux", "forced_flux"),
    "magnitude_error": ("magerr", "mag_err", "e_mag", "err", "error", "sigmapsf", "sigma", "magerr_auto", "uncertainty",
                        "dmag", "emag", "mag_error"),
    "flux_error": ("psffluxerr", "fluxerr", "flux_err", "flux_error", "fluxcalerr", "e_flux", "err", "error", "sigma",
                   "forcediffimfluxunc", "dflux", "uncertainty", "psffluxerr"),
    "band": ("band", "filter", "filtername", "flt", "fid", "filt", "passband", "filters"),
    "object": ("object_id", "objectid", "oid", "objid", "diaobjectid", "snid", "source_id", "sourceid", "star",
               "star_id", "starid", "id", "name", "object"),
    "ra": ("ra", "ra_deg", "raj2000", "_raj2000", "meanra", "ra_obj"),
    "dec": ("dec", "dec_deg", "decl", "dej2000", "_dej2000", "meandec", "dec_obj"),
    "quality": ("catflags", "quality", "sap_quality", "flags_phot", "bad", "info_bits"),
}  # fmt: skip
DECLARED = ("time", "time_system", "mag", "flux", "error", "band", "object", "ra", "dec")
_OFFSETS = {
    "mjd": 0.0, "jd": -2400000.5, "hjd": -2400000.5, "bjd": -2400000.5, "hmjd": 0.0, "bmjd": 0.0, "tai": 0.0,
    "btjd": 2457000 - 2400000.5, "bkjd": 2454833 - 2400000.5, "tcb": 0.0, "rjd": -0.5, "ogle": 2450000 - 2400000.5,
}  # fmt: skip
_SCALES = {"bjd": "tdb", "btjd": "tdb", "bkjd": "tdb", "bmjd": "tdb", "tcb": "tcb", "tai": "tai"}
SYSTEMS = tuple(_OFFSETS)
_JANSKY = {"Jy": 1e9, "mJy": 1e6, "uJy": 1e3}


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the columns of a table.

    Parameters
    ----------
    time : str
        Column of times.
    value : str
        Column of magnitudes or fluxes.
    magnitudes : bool
        True where ``value`` holds magnitudes.
    error, band, object, ra, dec, quality : str
        Other columns; empty where there are none.
    system : str
        Time system, one of ``SYSTEMS``, or empty where it is to be told from the values.
    """

    time: str
    value: str
    magnitudes: bool
    error: str = ""
    band: str = ""
    object: str = ""
    ra: str = ""
    dec: str = ""
    quality: str = ""
    system: str = ""


def declared(options: Mapping[str, Any], names: Sequence[str], what: str) -> Layout | None:
    """The layout that the user declared.

    Parameters
    ----------
    options : mapping
        Reader options; ``options["light_curves"]`` maps ``DECLARED`` to column names (``time_system`` to a system).
    names : sequence of str
        Columns of the table.
    what : str
        Name of the file, for messages.

    Returns
    -------
    Layout or None
        None where nothing was declared.

    Raises
    ------
    Unusable
        Where the declaration has an unknown key or system, or names a column that the table lacks.
    """
    given = dict(options.get("light_curves") or {})
    if not given:
        return None
    unknown = sorted(set(given) - set(DECLARED))
    if unknown:
        raise Unusable(f"declared light-curve columns have unknown keys {unknown}; allowed are {', '.join(DECLARED)}")
    system = str(given.pop("time_system", "")).lower()
    if system and system not in _OFFSETS:
        raise Unusable(f"time_system {system!r} is not known; allowed are {', '.join(SYSTEMS)}")
    if "time" not in given or ("mag" in given) == ("flux" in given):
        raise Unusable("declared light-curve columns need time and exactly one of mag and flux")
    missing = sorted(f"{key}={name}" for key, name in given.items() if name not in names)
    if missing:
        raise Unusable(f"{what} lacks the declared columns {', '.join(missing)}; it has {', '.join(names)}")
    value = given.pop("mag", None) or given.pop("flux")
    magnitudes = "mag" in (options["light_curves"] or {})
    return Layout(value=value, magnitudes=magnitudes, system=system, **given)


def known(names: Sequence[str]) -> Layout | None:
    """The layout of a table with known names.

    Parameters
    ----------
    names : sequence of str
        Columns of the table.

    Returns
    -------
    Layout or None
        None where there is no time, or neither magnitude nor flux.
    """
    lower = {name.strip().lower(): name for name in reversed(names)}

    def find(role: str) -> str:
        return next((lower[name] for name in NAMES[role] if name in lower), "")

    time, magnitude, flux = find("time"), find("magnitude"), find("flux")
    if not time or not (magnitude or flux):
        return None
    magnitudes = not flux or (bool(magnitude) and not find("flux_error"))
    error = find("magnitude_error" if magnitudes else "flux_error")
    return Layout(
        time=time,
        value=magnitude if magnitudes else flux,
        magnitudes=magnitudes,
        error=error,
        band=find("band"),
        object=find("object"),
        ra=find("ra"),
        dec=find("dec"),
        quality=find("quality"),
        system=system_of(time),
    )


def flux_unit(name: str, unit: str) -> tuple[str, float]:
    """Unit that a flux is kept in.

    Parameters
    ----------
    name, unit : str
        Of the column; LSST's ``psfFlux`` and SNANA's ``FLUXCAL`` are calibrated by definition.

    Returns
    -------
    unit : str
        ``"nJy"``, the file's own unit, or empty for a relative flux.
    factor : float
        That the column is multiplied by.
    """
    plain, lower = unit.strip(), name.lower()
    if (lower in ("psfflux", "flux_nanojansky") and plain in ("", "nJy")) or plain == "nJy":
        return "nJy", 1.0
    if lower == "fluxcal" and not plain:
        return "nJy", 10 ** (-0.4 * (27.5 - 31.4))
    if plain in _JANSKY:
        return "nJy", _JANSKY[plain]
    return (plain, 1.0) if "/" in plain else ("", 1.0)


def system_of(name: str, unit: str = "") -> str:
    """Time system from a column's name and unit.

    Parameters
    ----------
    name, unit : str
        Such as ``"HJD"`` or ``"BJD - 2457000, days"``.

    Returns
    -------
    str
        One of ``SYSTEMS``, or empty.
    """
    for text in (name.lower(), unit.lower()):
        if "2454833" in text or "bkjd" in text:
            return "bkjd"
        if "2457000" in text or "btjd" in text:
            return "btjd"
        if "tai" in text:
            return "tai"
        if "tcb" in text:
            return "tcb"
        for system in ("bjd", "hmjd", "hjd", "mjd", "jd"):
            if re.search(rf"(^|[^a-z]){system}([^a-z]|$)", text) or text == f"obs{system}":
                return system
    return ""


def to_mjd(middle: float, system: str) -> tuple[float, str, str]:
    """Days to add for MJD.

    Parameters
    ----------
    middle : float
        A typical time of the table.
    system : str
        Declared or named system; empty: told from the value.

    Returns
    -------
    offset : float
        To be added; NaN where the zero point cannot be known.
    scale : str
        ``"tdb"``, ``"tai"``, ``"tcb"`` or empty where it is not stated.
    system : str
        The system, for the catalog.
    """
    if not system:
        system = "jd" if 2.4e6 < middle < 2.5e6 else "mjd" if 3.0e4 < middle < 8.0e4 else ""
    elif system in ("jd", "hjd", "bjd") and not 2.4e6 < middle < 2.5e6:
        reduced = {"jd": "mjd", "hjd": "hmjd", "bjd": "bmjd"}[system]
        system = reduced if 4.0e4 < middle < 8.0e4 else "bkjd" if system == "bjd" and middle < 0 else ""
    if not system:
        return float("nan"), "", ""
    return _OFFSETS[system], _SCALES.get(system, ""), system
