"""Teff, logg and [Fe/H] as columns, as labels and as vectors, and the classes of quality that errors refer to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from finetune.task import Labels, Row
from transforms.columns import FLOAT32, Column

QUANTITIES = ("teff", "logg", "fe_h")
UNITS = ("K", "dex(cm / s2)", "dex")
UCDS = ("phys.temperature.effective", "phys.gravity", "phys.abund.Z")
WORDS = ("Effective temperature", "Logarithm of the surface gravity", "Iron abundance relative to the Sun")
FE_H_LIMITS = (-2.9, 0.7)  #: MILES labels outside belong to chemically peculiar A stars, not to a metallicity scale.
SN_LIMITS = (15.0, 40.0)  #: S/N per pixel that separate the classes of quality.
LN10 = math.log(10)


def columns(prefix: str, whose: str, errors: bool) -> tuple[Column, ...]:
    """Columns of the three quantities.

    Parameters
    ----------
    prefix : str
        Of the names.
    whose : str
        Ends the description.
    errors : bool
        Whether each has the half-widths of its 68 and 95 percent intervals.

    Returns
    -------
    tuple of Column
        Three or nine.
    """
    out = []
    for name, unit, ucd, words in zip(QUANTITIES, UNITS, UCDS, WORDS, strict=True):
        out.append(Column(f"{prefix}{name}", FLOAT32, unit, ucd, f"{words}, {whose}"))
        if errors:
            error_unit = "dex" if unit.startswith("dex") else unit
            for suffix, share in (("_err", 68), ("_err95", 95)):
                sentence = f"Half-width that holds the true value of {prefix}{name} for {share} percent of such spectra"
                out.append(Column(f"{prefix}{name}{suffix}", FLOAT32, error_unit, f"stat.error;{ucd}", sentence))
    return tuple(out)


def encode(labels: Labels) -> dict[str, np.ndarray]:
    """Labels of one star as a target.

    Parameters
    ----------
    labels : mapping
        ``teff`` in K, ``logg``, ``fe_h``.

    Returns
    -------
    dict of str to ndarray
        ``labels``, float32, shape (3,): log10 K, dex, dex; NaN where missing; [Fe/H] clipped at ``FE_H_LIMITS``.
    """
    values = [labels.get(name) for name in QUANTITIES]
    out = np.array([np.nan if v is None else float(v) for v in values])
    out[0] = np.log10(out[0]) if out[0] > 0 else np.nan
    out[2] = np.clip(out[2], *FE_H_LIMITS)
    return {"labels": out.astype(np.float32)}


def vector(row: Mapping[str, Any], prefix: str = "") -> np.ndarray:
    """Quantities of a row.

    Parameters
    ----------
    row : mapping
        With columns.
    prefix : str
        Of the names.

    Returns
    -------
    ndarray, shape (3,)
        log10 K, dex, dex; NaN for nulls.
    """
    values = [row.get(prefix + name) for name in QUANTITIES]
    out = np.array([np.nan if v is None else float(v) for v in values])
    out[0] = np.log10(out[0]) if out[0] > 0 else np.nan
    return out


def widths(row: Mapping[str, Any], prefix: str = "") -> np.ndarray:
    """Half-widths of the intervals of a row.

    Parameters
    ----------
    row : mapping
        With columns.
    prefix : str
        Of the names.

    Returns
    -------
    ndarray, shape (2, 3)
        Of 68 and 95 percent, in dex; NaN for nulls.
    """
    out = np.full((2, 3), np.nan)
    for k, name in enumerate(QUANTITIES):
        for level, suffix in enumerate(("_err", "_err95")):
            value = row.get(f"{prefix}{name}{suffix}")
            unit = LN10 * row[prefix + name] if k == 0 and row.get(prefix + name) else 1.0
            out[level, k] = np.nan if value is None else float(value) / unit
    return out


def as_columns(prefix: str, value: np.ndarray, half_widths: np.ndarray | None = None) -> Row:
    """Quantities, and the half-widths of their intervals, as columns.

    Parameters
    ----------
    prefix : str
        Of the names.
    value : ndarray, shape (3,)
        log10 Teff, logg, [Fe/H]; what is not finite becomes null.
    half_widths : ndarray, shape (2, 3), optional
        Of the 68 and 95 percent intervals, dex.

    Returns
    -------
    dict
        Three or nine columns; the error of Teff in K.
    """
    row: Row = {}
    for k, name in enumerate(QUANTITIES):
        number = 10 ** float(np.clip(value[k], 2, 6)) if k == 0 else float(value[k])
        unit = number * LN10 if k == 0 else 1.0
        row[prefix + name] = number if np.isfinite(value[k]) else None
        if half_widths is not None:
            for level, suffix in enumerate(("_err", "_err95")):
                width = unit * float(half_widths[level, k])
                row[f"{prefix}{name}{suffix}"] = width if math.isfinite(width) else None
    return row


def quality(sn: float | None, blue: float | None, red: float | None) -> str:
    """Class of quality of a spectrum, in which errors and the best method are calibrated.

    Parameters
    ----------
    sn : float or None
        Median S/N per pixel.
    blue, red : float or None
        Usable shares of 3800 to 5480 and 5480 to 7200 Angstrom.

    Returns
    -------
    str
        Such as ``"sn15-40 full"``; ``"blue"`` and ``"red"`` where half of the other part is missing.
    """
    sn, blue, red = sn or 0.0, blue or 0.0, red or 0.0
    low, high = SN_LIMITS
    noise = f"sn<{low:g}" if sn < low else f"sn{low:g}-{high:g}" if sn < high else f"sn>{high:g}"
    part = "full" if min(blue, red) > 0.5 else "blue" if blue >= red else "red"
    return f"{noise} {part}"
