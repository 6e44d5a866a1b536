"""Columns of spectra in tables of any kind: which is which, in what unit, and how they become arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers.spectrum_header import UNITS
from transforms.readers.spectrum_record import error_to_ivar, variance_to_ivar

#: Names of columns in lower case, the best first.
WAVELENGTH = ("wavelength", "wave", "lambda", "lam", "wl", "wlen", "loglam", "loglambda", "log_wavelength")
FLUX = ("flux", "spec", "spectrum", "flam", "f_lambda", "flux_density", "fluxes")
IVAR = ("ivar", "inverse_variance", "invvar", "flux_ivar")
VARIANCE = ("variance", "var", "flux_var")
ERROR = ("flux_error", "flux_err", "fluxerr", "error", "err", "sigma", "e_flux", "uncertainty", "noise", "eflux", "std")
MASK = ("mask", "bad", "dq", "and_mask", "andmask", "bitmask", "flags")
OBJECT = ("object_id", "source_id", "targetid", "target_id", "objid", "object", "name", "id", "star")
_SUFFIX = re.compile(r"_(angstrom|ang|aa|a|nm|um|micron|microns|air|vac|vacuum)\Z")


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the columns that make a spectrum; empty where there is none.

    Parameters
    ----------
    wavelength, flux, ivar, variance, error, mask, object : str
        As the file spells them.
    """

    wavelength: str
    flux: str
    ivar: str = ""
    variance: str = ""
    error: str = ""
    mask: str = ""
    object: str = ""


def layout(names: Iterable[str]) -> Layout | None:
    """Find the columns of a spectrum by their names.

    Parameters
    ----------
    names : iterable of str
        Column names of the table.

    Returns
    -------
    Layout or None
        None where wavelength or flux is missing.
    """
    bare: dict[str, str] = {}
    for name in names:
        short = name.strip().lower()
        while (cut := _SUFFIX.sub("", short)) != short:
            short = cut
        bare.setdefault(short, name)

    def find(candidates: tuple[str, ...]) -> str:
        return next((bare[c] for c in candidates if c in bare), "")

    found = {"wavelength": WAVELENGTH, "flux": FLUX, "ivar": IVAR, "variance": VARIANCE, "error": ERROR, "mask": MASK}
    picked = {key: find(candidates) for key, candidates in found.items()}
    if not picked["wavelength"] or not picked["flux"]:
        return None
    return Layout(object=find(OBJECT), **picked)


def to_angstrom(values: np.ndarray, name: str, unit: str) -> np.ndarray:
    """Convert a wavelength column to Angstrom.

    Parameters
    ----------
    values : ndarray
        The column.
    name : str
        Its name: ``loglam`` says log10, ``wave_nm`` says nanometre.
    unit : str
        Its unit, empty where the table states none.

    Returns
    -------
    ndarray of float64
        Angstrom, in air or vacuum as the file has it.

    Raises
    ------
    Unusable
        For a unit that is not known, or none where the values do not tell.
    """
    values = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
    top = float(np.nanmax(values)) if np.isfinite(values).any() else np.nan
    if name.lower().startswith("log") and top < 6:
        return 10.0**values
    suffix = re.search(r"_(angstrom|ang|aa|nm|um|micron|microns)(?:_(?:air|vac|vacuum))?\Z", name.lower())
    text = unit.strip().lower() or (suffix.group(1) if suffix else "")
    if "log" in text and top < 6:
        return 10.0**values
    if not text and top < 2000:
        raise Unusable(f"wavelengths up to {top:.6g} in column {name!r} have no unit; name it, as in wavelength_nm")
    if text not in UNITS:
        raise Unusable(f"wavelength unit {unit!r} of column {name!r} is not known")
    return values * UNITS[text]


def air_by_name(name: str) -> bool | None:
    """Say whether a column's name tells of air or vacuum.

    Parameters
    ----------
    name : str
        Column name.

    Returns
    -------
    bool or None
        None where it tells nothing.
    """
    if re.search(r"(\A|_)air(\Z|_)", name.lower()):
        return True
    return False if re.search(r"(\A|_)vac(uum)?(\Z|_)", name.lower()) else None


def planes(found: Layout, columns: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Flux, inverse variance and mask from the columns.

    Parameters
    ----------
    found : Layout
        Their names.
    columns : mapping of str to array
        The columns (or one row of a table of arrays).

    Returns
    -------
    flux : ndarray of float64, shape (n,)
        NaN where missing.
    ivar : ndarray of float64, shape (n,), or None
        None where the table has no error.
    mask : ndarray of bool, shape (n,), or None
        None where it has no mask.
    """

    def values(name: str) -> np.ndarray:
        return np.ma.filled(np.ma.asarray(columns[name], dtype=np.float64), np.nan)

    ivar = None
    if found.ivar:
        ivar = values(found.ivar)
    elif found.variance:
        ivar = variance_to_ivar(values(found.variance))
    elif found.error:
        ivar = error_to_ivar(values(found.error))
    mask = np.nan_to_num(values(found.mask), nan=1.0) != 0 if found.mask else None
    return values(found.flux), ivar, mask
