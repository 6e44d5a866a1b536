"""Which column of a table is time, brightness, error, band and object: by known names, or as the user declared."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transforms.attempt import Unusable
from transforms.readers.light_curve_times import SYSTEMS

__all__ = ["DECLARED", "NAMES", "SYSTEMS", "Layout", "declared", "known", "plain", "unit_in_name"]  # the door reads two

#: Known names as ``plain`` spells them, the surest first: barycentric before heliocentric before plain time, an object
#: before what the user asked for or a word that may be anything.
NAMES: dict[str, tuple[str, ...]] = {
    "time": ("bjd", "bjd_tdb", "btjd", "bkjd", "hjd", "hmjd", "mjd", "jd",
             "midpointmjdtai", "midpointtai", "expmidptmjd", "obsmjd", "expmjd", "date_mjd", "time", "obs_time",
             "times", "t"),
    "magnitude": ("mag", "magnitude", "mag_auto", "psfmag", "calib_mag", "magnitudes", "vmag", "mag_iso"),
    "flux": ("psfflux", "flux", "fluxcal", "flux_nanojansky", "pdcsap_flux", "sap_flux", "corrected_flux", "raw_flux",
             "forced_flux"),
    "magnitude_error": ("magerr", "mag_err", "e_mag", "mag_error", "err", "error", "sigma", "magerr_auto",
                        "uncertainty", "dmag", "emag", "merr"),
    "flux_error": ("psffluxerr", "fluxerr", "flux_err", "flux_error", "fluxcalerr", "e_flux", "err", "error", "sigma",
                   "dflux", "uncertainty", "fraw_err"),
    "band": ("band", "filter", "filtername", "filtercode", "flt", "fid", "filt", "passband", "filters",
             "phot_filter"),
    "object": ("object_id", "objectid", "oid", "objid", "obj_id", "diaobjectid", "snid", "source_id", "sourceid",
               "masterid", "asas_sn_id", "ticid", "tic_id", "tic", "kepid", "epic", "ssnamenr", "star", "star_id",
               "starid", "star_name", "starname", "object_name", "objectname", "objname", "source_name", "target_id",
               "targetid", "targetname", "target_name", "target", "numericid", "id", "name", "object", "inputid"),
    "ra": ("ra", "ra_deg", "raj2000", "_raj2000", "meanra", "ra_obj", "coord_ra"),
    "dec": ("dec", "dec_deg", "decl", "dej2000", "_dej2000", "meandec", "dec_obj", "coord_dec"),
    "quality": ("catflags", "quality", "sap_quality", "flags_phot", "bad", "info_bits", "rejected_by_photometry",
                "rejected_by_variability", "pixelflags_bad", "pixelflags_saturatedcenter", "psfflux_flag"),
}  # fmt: skip
DECLARED = ("time", "time_system", "mag", "flux", "error", "band", "object", "ra", "dec")


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the columns of a table; empty where there is none.

    Parameters
    ----------
    time : str
        Column of times.
    value : str
        Column of magnitudes or fluxes.
    magnitudes : bool
        True where ``value`` holds magnitudes.
    error, band, object, ra, dec : str
        Other columns.
    quality : tuple of str
        Columns that tell bad points, any of them.
    system : str
        Time system, or empty where it is to be told from the column and its values.
    sign : str
        Column that tells whether a magnitude stands for a negative flux (``isdiffpos``).
    zero_point : str
        Column of the AB magnitude of one unit of flux.
    zero_system : str
        Column that names the system of ``zero_point``.
    unit : str
        Unit of ``value`` that the survey fixes where the file states none.
    difference : bool
        True where ``value`` is what a template image lacks, not all of the object's light.
    fault : str
        Why ``value`` cannot be used, where it cannot.
    instead : Layout or None
        To be used for an object most of whose points have no ``value``.
    """

    time: str
    value: str
    magnitudes: bool
    error: str = ""
    band: str = ""
    object: str = ""
    ra: str = ""
    dec: str = ""
    quality: tuple[str, ...] = ()
    system: str = ""
    sign: str = ""
    zero_point: str = ""
    zero_system: str = ""
    unit: str = ""
    difference: bool = False
    fault: str = ""
    instead: Layout | None = None


#: Fields of a layout that are names of columns.
_COLUMNS = frozenset({"time", "value", "error", "band", "sign", "zero_point", "zero_system"})


@dataclass(frozen=True, slots=True)
class Survey:
    """A table whose column names mean what one survey means by them.

    Parameters
    ----------
    needs : frozenset of str
        Names, as ``plain`` spells them, that tell it.
    roles : mapping
        Fields of ``Layout`` that its names fix: names of columns (the first that is there), or values of the others.
    instead : mapping or None
        The same for an object most of whose points lack the first choice.
    """

    needs: frozenset[str]
    roles: Mapping[str, Any]
    instead: Mapping[str, Any] | None = None


def _ztf(value: str, error: str, *, corrected: tuple[str, ...] = ()) -> Survey:
    """Magnitudes of a difference image, whose sign stands beside them, or, where they are there, of all the light."""
    difference = {"value": value, "error": error, "magnitudes": True, "sign": "isdiffpos", "difference": True}
    if not corrected:
        return Survey(frozenset({value, "isdiffpos"}), difference)
    # the error that does not take the template's noise out again: the other one is 100 for half of the points
    total = {"value": corrected[0], "error": corrected[1:], "magnitudes": True}
    return Survey(frozenset({value, "isdiffpos", corrected[0]}), total, difference)


#: The most special first.
SURVEYS: tuple[Survey, ...] = (
    _ztf("magpsf", "sigmapsf", corrected=("magpsf_corr", "sigmapsf_corr_ext", "sigmapsf_corr")),  # ALeRCE
    _ztf("mag", "e_mag", corrected=("mag_corr", "e_mag_corr_ext", "e_mag_corr")),  # ALeRCE, second interface
    _ztf("magpsf", "sigmapsf"),  # ZTF alerts, Fink
    _ztf("mag", "e_mag"),
    Survey(frozenset({"forcediffimflux", "zpdiff"}), {  # ZTF forced photometry service
        "value": "forcediffimflux", "error": "forcediffimfluxunc", "magnitudes": False, "zero_point": "zpdiff",
        "difference": True}),
    Survey(frozenset({"mag_tot", "sigma_mag_tot"}), {
        "value": "mag_tot", "error": "sigma_mag_tot", "magnitudes": True}),
    Survey(frozenset({"flux", "zp"}), {  # sncosmo
        "value": "flux", "error": ("fluxerr", "flux_err"), "magnitudes": False, "zero_point": "zp",
        "zero_system": "zpsys"}),
    Survey(frozenset({"ujy", "dujy", "f"}), {  # ATLAS forced photometry on difference images
        "value": "ujy", "error": "dujy", "magnitudes": False, "unit": "uJy", "band": "f", "quality": ("err",),
        "difference": True}),
    Survey(frozenset({"transit_id", "flux", "flux_over_error", "time"}), {  # Gaia epoch photometry
        "time": "time", "value": "flux", "error": "flux_error", "magnitudes": False, "system": "gaia",
        "unit": "electron/s"}),
    Survey(frozenset({"flux", "flux_error", "limit", "camera"}), {  # ASAS-SN
        "value": "flux", "error": "flux_error", "magnitudes": False, "unit": "mJy"}),
    Survey(frozenset({"flux", "flux_err", "limit", "camera"}), {
        "value": "flux", "error": "flux_err", "magnitudes": False, "unit": "mJy"}),
    Survey(frozenset({"psfflux", "scienceflux"}), {  # Rubin DIASource and DIAForcedSource
        "value": "psfflux", "error": "psffluxerr", "magnitudes": False, "difference": True}),
    Survey(frozenset({"psfflux", "diasourceid"}), {
        "value": "psfflux", "error": "psffluxerr", "magnitudes": False, "difference": True}),
    Survey(frozenset({"psflux", "psfluxerr"}), {  # the same before 2023
        "value": "psflux", "error": "psfluxerr", "magnitudes": False, "unit": "nJy", "difference": True}),
)  # fmt: skip
#: Names that mean nothing without another column: that column, and why.
ALONE = {
    "magpsf": ("isdiffpos", "a ZTF magpsf is the brightness of a difference and does not hold its sign"),
    "forcediffimflux": ("zpdiff", "a ZTF forcediffimflux is in the counts of its own image"),
}


def plain(name: str) -> str:
    """The spelling by which names are compared.

    Parameters
    ----------
    name : str
        Of a column, such as ``"Flux (mJy)"``, ``"###MJD"``, ``"i:magpsf"`` or ``"BJD - 2457000"``.

    Returns
    -------
    str
        Lower case, words joined by ``_``, without a unit in brackets or the zero point of a Julian date.
    """
    text = re.sub(r"\s*[(\[][^()\[\]]*[)\]]\s*\Z", "", name.strip().lower().lstrip("#").strip().removeprefix("i:"))
    text = re.sub(r"(jd\w*?)\s*[-_]\s*24\d{5}(\.\d+)?\Z", r"\1", text)
    return re.sub(r"[\s-]+", "_", text)


def unit_in_name(name: str) -> str:
    """Unit that a column's name ends with.

    Parameters
    ----------
    name : str
        Such as ``"flux(mJy)"``.

    Returns
    -------
    str
        What stands in brackets, or empty.
    """
    found = re.search(r"[(\[]([^()\[\]]+)[)\]]\s*\Z", name)
    return found[1].strip() if found else ""


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
    if system and system not in SYSTEMS:
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
    there = {plain(name): name for name in reversed(names)}

    def find(*wanted: str) -> str:
        return next((there[name] for name in wanted if name in there), "")

    shared = {role: find(*NAMES[role]) for role in ("time", "band", "object", "ra", "dec")}
    if not shared["time"]:
        return None
    common: dict[str, Any] = {**shared, "quality": tuple(there[name] for name in NAMES["quality"] if name in there)}
    survey = next((survey for survey in SURVEYS if survey.needs <= there.keys()), None)
    if survey is not None:
        instead = Layout(**{**common, **_fixed(survey.instead, find)}) if survey.instead is not None else None
        return Layout(**{**common, **_fixed(survey.roles, find), "instead": instead})
    magnitude, flux = find(*NAMES["magnitude"]), find(*NAMES["flux"])
    if not (magnitude or flux):
        return _alone(common, there)
    magnitudes = not flux or (bool(magnitude) and not find(*NAMES["flux_error"]))
    error = find(*NAMES["magnitude_error" if magnitudes else "flux_error"])
    return Layout(value=magnitude if magnitudes else flux, magnitudes=magnitudes, error=error, **common)


def _fixed(roles: Mapping[str, Any], find: Callable[..., str]) -> dict[str, Any]:
    """Fields of the layout that a survey fixes, in the file's spelling."""
    out = {role: find(*([wanted] if isinstance(wanted, str) else wanted)) if role in _COLUMNS else wanted
           for role, wanted in roles.items()}  # fmt: skip
    if "quality" in roles:
        out["quality"] = tuple(filter(None, map(find, roles["quality"])))
    return out


def _alone(common: dict[str, Any], there: Mapping[str, str]) -> Layout | None:
    """A layout that says what its brightness lacks; None where there is no brightness at all."""
    for name, (partner, why) in ALONE.items():
        if name in there:
            fault = f"column {there[name]!r} needs {partner!r} beside it: {why}"
            return Layout(value=there[name], magnitudes=name.startswith("mag"), fault=fault, **common)
    return None
