"""Columns of spectra in tables of any kind: which is which, in what unit, and how they become arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.readers.spectrum_record import error_to_ivar, variance_to_ivar
from transforms.readers.spectrum_units import to_angstrom

#: Names of columns in lower case, the best first.
WAVELENGTH = ("wavelength", "wave", "lambda", "lam", "wl", "wlen", "loglam", "loglambda", "log_wavelength")
FLUX = ("flux", "spec", "spectrum", "flam", "f_lambda", "flux_density", "fluxes", "flux_reduced")
IVAR = ("ivar", "inverse_variance", "invvar", "flux_ivar")
VARIANCE = ("variance", "var", "flux_var", "stat")
ERROR = (
    "flux_error", "flux_err", "fluxerr", "error", "err", "err_flux", "sigma", "e_flux", "uncertainty", "noise", "eflux",
    "std", "flux_sigma", "error_flux", "flux_unc", "flux_uncertainty", "err_reduced",
)  # fmt: skip
MASK = ("mask", "bad", "dq", "and_mask", "andmask", "bitmask", "flags", "qual", "quality", "pixmask")
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


def column_wavelength(values: np.ndarray, name: str, unit: str) -> np.ndarray:
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
    suffix = re.search(r"_(angstrom|ang|aa|nm|um|micron|microns)(?:_(?:air|vac|vacuum))?\Z", name.lower())
    stated = unit.strip() or (suffix.group(1) if suffix else "")
    return to_angstrom(values, stated, f"column {name!r}", log=name.lower().startswith("log"))


def air_by_name(name: str, others: Iterable[str] = (), ucd: str = "") -> bool | None:
    """Say whether a wavelength column is in air, by what it is called.

    Parameters
    ----------
    name : str
        Column name.
    others : iterable of str
        Names of all columns: WAVE beside WAVE_AIR is in vacuum, and the other way round.
    ucd : str
        Unified content descriptor (TUCDn): ESO writes ``em.wl;obs.atmos`` for air and ``em.wl`` for vacuum.

    Returns
    -------
    bool or None
        None where nothing tells.
    """
    if (named := _medium(name)) is not None:
        return named
    if (kind := ucd.strip().lower().replace(" ", "")) in {"em.wl", "em.wl;obs.atmos"}:
        return kind != "em.wl"
    stem = name.strip().lower()
    beside = {_medium(other) for other in others if re.sub(r"_(air|vac|vacuum)\Z", "", other.strip().lower()) == stem}
    if beside >= {True, False}:
        return None
    return False if True in beside else (True if False in beside else None)


def _medium(name: str) -> bool | None:
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
        None where the table has no error, or none that is a number anywhere.
    mask : ndarray of bool, shape (n,), or None
        None where it has no mask.
    """

    def values(name: str) -> np.ndarray:
        return np.ma.filled(np.ma.asarray(columns[name], dtype=np.float64), np.nan)

    ivar = None
    if found.ivar:
        ivar = values(found.ivar)
        ivar = ivar if np.isfinite(ivar).any() else None
    elif found.variance:
        ivar = variance_to_ivar(values(found.variance))
    elif found.error:
        ivar = error_to_ivar(values(found.error))
    mask = np.nan_to_num(values(found.mask), nan=1.0) != 0 if found.mask else None
    return values(found.flux), ivar, mask
