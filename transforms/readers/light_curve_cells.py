"""What single cells of a light-curve table mean: upper limits, sexagesimal angles, letters of quality, signs, units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from transforms.attempt import Unreadable, Unusable

_LIMIT = re.compile(r"[<>\u2264\u2265\[]\s*=?\s*[-+\d.]")
_GOOD = frozenset({"g", "good", "ok", "f", "false", "n", "no"})
_BAD = frozenset({"b", "bad", "t", "true", "y", "yes"})
_SIGNS = {"t": 1.0, "true": 1.0, "f": -1.0, "false": -1.0}
#: Numbers that stand for filters, by the plain name of their column.
_CODES = {
    "fid": {"1": "g", "2": "r", "3": "i"},  # ZTF
    "passband": {"0": "u", "1": "g", "2": "r", "3": "i", "4": "z", "5": "y"},  # LSST, in PLAsTiCC
}
_SEXAGESIMAL = re.compile(r"([+-]?)(\d{1,3})[:hd\s\u00b0]+(\d{1,2})[:m'\s]+(\d{1,2}(?:\.\d*)?)\s*[s\"]?")
#: Degrees in one unit of an angle.
DEGREES_IN = {"h": 15.0, "hr": 15.0, "hour": 15.0, "hours": 15.0, "hourangle": 15.0, "rad": 180 / np.pi}


def numbers(texts: Sequence[str | None], column: str) -> np.ndarray:
    """Read numbers that share a column with text.

    Parameters
    ----------
    texts : sequence of str or None
        Cells.
    column : str
        Its name, for the message.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN for an empty cell, a limit such as ``"<12.0"`` and a cell that is no number.

    Raises
    ------
    Unreadable
        Where more than half of the cells are neither.
    """
    out = np.full(len(texts), np.nan)
    odd = []
    for index, text in enumerate(texts):
        cell = (text or "").strip()
        try:
            out[index] = float(cell)
        except ValueError:
            if cell and not _LIMIT.match(cell):
                odd.append(cell)
    if 2 * len(odd) > len(texts):
        raise Unreadable(f"column {column!r} is not a column of numbers: {odd[0]!r} and {len(odd) - 1} other cells")
    return out


def degrees(texts: Sequence[str | None], *, hours: bool) -> np.ndarray:
    """Read angles in decimal degrees or sexagesimal.

    Parameters
    ----------
    texts : sequence of str or None
        Such as ``"83.63"``, ``"05:34:31.9"``, ``"5h34m31.9s"``.
    hours : bool
        Sexagesimal text is in hours.

    Returns
    -------
    ndarray of float64, shape (n,)
        Degrees; NaN for text that is no angle.
    """
    return np.array([_degrees((text or "").strip(), hours) for text in texts], np.float64)


def _degrees(text: str, hours: bool) -> float:
    try:
        return float(text)
    except ValueError:
        parts = _SEXAGESIMAL.fullmatch(text)
    if parts is None:
        return np.nan
    sign, whole, minutes, seconds = parts.groups()
    angle = (float(whole) + float(minutes) / 60 + float(seconds) / 3600) * (15 if hours else 1)
    return -angle if sign == "-" else angle


def place(ra: float, dec: float) -> dict[str, float | None]:
    """Check a position.

    Parameters
    ----------
    ra, dec : float
        Degrees; NaN or a sentinel such as -999 where unknown.

    Returns
    -------
    dict
        ``ra`` from 0 to 360 and ``dec``; both None where either is off the sky.
    """
    good = -180 <= ra <= 360 and -90 <= dec <= 90
    return {"ra": float(ra) % 360 if good else None, "dec": float(dec) if good else None}


def bad(texts: Sequence[str], column: str) -> np.ndarray:
    """Read a column of quality.

    Parameters
    ----------
    texts : sequence of str
        Bits as numbers, true and false, or letters such as the ``G`` and ``B`` of ASAS-SN; empty where missing.
    column : str
        Its name, for the message.

    Returns
    -------
    ndarray of bool, shape (n,)
        True = bad: any bit is set, or nothing is said.

    Raises
    ------
    Unusable
        For a word that is known neither as good nor as bad.
    """
    meaning = {word: _is_bad(word, column) for word in set(texts)}
    return np.array([meaning[word] for word in texts], bool)


def _is_bad(word: str, column: str) -> bool:
    plain = word.strip().lower()
    if plain in _GOOD:
        return False
    if plain in _BAD or not plain:
        return True
    try:
        return float(plain) != 0
    except ValueError as error:
        raise Unusable(f"column {column!r} holds {word!r}, known neither as a good nor as a bad point") from error


def signs(texts: Sequence[str]) -> np.ndarray:
    """Read ``isdiffpos``: whether an object is brighter than in the template.

    Parameters
    ----------
    texts : sequence of str
        ``t`` or ``f``, 1 or 0, 1 or -1.

    Returns
    -------
    ndarray of float64, shape (n,)
        1, -1, or NaN where nothing is said.
    """
    return np.array([_sign(text.strip().lower()) for text in texts], np.float64)


def _sign(text: str) -> float:
    if text in _SIGNS:
        return _SIGNS[text]
    try:
        return 1.0 if float(text) > 0 else -1.0
    except ValueError:
        return np.nan


def bands(texts: np.ndarray, column: str) -> np.ndarray:
    """Names of filters, where a survey numbers them.

    Parameters
    ----------
    texts : ndarray of str, shape (n,)
        Cells.
    column : str
        Plain name of the column.

    Returns
    -------
    ndarray of str, shape (n,)
        Letters in place of the numbers of ZTF's ``fid`` and PLAsTiCC's ``passband``; other names as they are.
    """
    codes = _CODES.get(column, {})
    return np.array([codes.get(text.removesuffix(".0"), text) for text in texts.tolist()], str)


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
    text, lower = unit.strip().strip("'"), name.strip().lower()
    if lower == "fluxcal" and not text:
        return "nJy", 10 ** (-0.4 * (27.5 - 31.4))
    if lower in ("psfflux", "flux_nanojansky") and not text:
        return "nJy", 1.0
    if re.fullmatch(r"(e-?|electrons?)'?\s*[/.]?\s*s(ec)?(\*\*)?(-1)?", text):
        return "electron/s", 1.0
    factor = _nanojansky(text)
    if factor is not None:
        return "nJy", factor
    return (text, 1.0) if "/" in text else ("", 1.0)


@cache
def _nanojansky(unit: str) -> float | None:
    """How many nJy one unit is; None for a unit of something else."""
    from astropy import units as u

    if unit.lower() in ("nanomaggy", "nanomaggies", "nmgy"):
        return float(10 ** (-0.4 * (22.5 - 31.4)))
    try:
        return float(u.Unit(unit.replace("\u00b5", "u")).to(u.nJy)) if unit else None
    except (ValueError, TypeError, u.UnitConversionError):
        return None
