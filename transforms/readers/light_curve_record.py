"""Columns of one object to a ``LightCurve``: one flux system, one time system, sorted, with what is odd flagged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.bands import sdss_like
from transforms.flags import bits
from transforms.light_curve import AB_NANOJANSKY
from transforms.numerics.light_curve_clean import order_points
from transforms.readers.light_curve_times import to_mjd
from transforms.records import LightCurve

FAINTEST = 50.0  #: A magnitude beyond is a sentinel.
COARSE = 1e-3  #: Days; 32-bit times with larger steps are flagged.
WORST = 1.0  #: mag; an error from here on is a sentinel or worthless.
#: AB less Vega magnitude (Blanton & Roweis 2007, AJ 133, 734).
_VEGA = {"U": 0.79, "B": -0.09, "V": 0.02, "R": 0.21, "I": 0.45}


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Raw columns of one object.

    Parameters
    ----------
    time, value : ndarray, shape (n,)
        As in the file.
    error : ndarray, shape (n,), or None
        One sigma of ``value``.
    band : ndarray of str, shape (n,)
        Filter; empty where unknown.
    bad : ndarray of bool, shape (n,), or None
        True where the file's own quality bits say so.
    sign : ndarray of float64, shape (n,), or None
        1 or -1 for each magnitude, where some stand for a negative flux; NaN: not known.
    magnitudes : bool
        What ``value`` is.
    unit : str
        Of a flux; ``"nJy"`` where the file says so; empty: not calibrated.
    system : str
        Time system, or empty.
    phases : bool
        True where ``time`` holds phases.
    coarse : bool
        True where ``time`` was stored as 32-bit floats.
    difference : bool
        True where the flux is what a template image lacks.
    identity : dict
        ``source``, ``hdu``, ``row``, ``object_id``, ``ra``, ``dec``.
    """

    time: np.ndarray
    value: np.ndarray
    error: np.ndarray | None = None
    band: np.ndarray
    bad: np.ndarray | None = None
    sign: np.ndarray | None = None
    magnitudes: bool
    unit: str = ""
    system: str = ""
    phases: bool = False
    coarse: bool = False
    difference: bool = False
    identity: dict[str, Any] = field(default_factory=dict)


def make_light_curve(columns: Columns) -> LightCurve:
    """Build the record.

    Parameters
    ----------
    columns : Columns
        Raw columns.

    Returns
    -------
    LightCurve
        Flux in nJy where magnitudes are AB or in a known Vega system, else divided by the median (``"relative"``) or
        in the file's unit. Sentinels, bad errors, duplicates and the file's bad points are marked in ``quality``.

    Raises
    ------
    Unusable
        Where no point has both a time and a value.
    """
    time, value = np.asarray(columns.time, np.float64), np.asarray(columns.value, np.float64)
    error = np.full(time.size, np.nan) if columns.error is None else np.asarray(columns.error, np.float64)
    there = np.isfinite(time)
    if not np.any(there & np.isfinite(value)):
        raise Unusable(f"none of the {time.size} points has both a time and a brightness")
    time, value, error, band = time[there], value[there], error[there], _bands(columns.band[there])
    bad = np.zeros(time.size, bool) if columns.bad is None else columns.bad[there].astype(bool)
    sign = None if columns.sign is None else columns.sign[there]
    flags = bits("DIFFERENCE_FLUX") if columns.difference else 0
    flux, flux_err, unit, poor, more = _flux(value, error, band, columns, sign)
    flags |= more
    if columns.coarse and np.spacing(np.float32(np.median(time))) > COARSE:
        flags |= bits("TIME_COARSE")
    order, duplicate = order_points(time, band)
    if any(np.any(np.diff(time[band == name]) < 0) for name in np.unique(band)):
        flags |= bits("UNSORTED")
    if duplicate.any():
        flags |= bits("DUPLICATE_TIMES")
    quality = (bad | poor)[order] | duplicate
    time, scale, system, zero_flags = _times(time[order], columns)
    return LightCurve(
        **columns.identity,
        mjd=None if zero_flags & bits("NO_TIME") else float(np.median(time)),
        time_scale=scale,
        flags=flags | zero_flags | _position_flag(columns.identity),
        measured={"time_system": system} if system else {},
        time=time,
        flux=flux[order],
        flux_err=flux_err[order],
        band=band[order],
        quality=quality,
        unit=unit,
    )


def _bands(band: np.ndarray) -> np.ndarray:
    """Plain strings; a capital ``R`` beside a small ``g`` is the r of the same camera."""
    names = np.char.strip(band.astype(str))
    unique = set(names.tolist())
    if unique & {"g", "zg"} and "R" in unique and not unique & {"B", "V"}:
        names = np.where(names == "R", "r", names)
    return names


def _flux(
    value: np.ndarray, error: np.ndarray, band: np.ndarray, columns: Columns, sign: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, str, np.ndarray, int]:
    """Flux, error, unit, bad points, flags."""
    flags = 0
    poor = ~np.isfinite(value)
    if not np.isfinite(error).any():
        flags |= bits("NO_ERROR")
    else:
        wrong = np.isfinite(value) & (~np.isfinite(error) | (error <= 0))
        if columns.magnitudes:
            wrong |= error >= WORST
        if wrong.any():
            flags |= bits("NEGATIVE_ERROR")
        poor |= wrong
    if not columns.magnitudes:
        flux, scale = np.where(poor & ~np.isfinite(value), 0.0, value), 1.0
        unit = columns.unit
        if not unit:
            middle = float(np.median(np.abs(flux[~poor]))) if np.any(~poor) else 1.0
            unit, scale = "relative", 1 / middle if middle > 0 else 1.0
        return flux * scale, error * scale, unit, poor, flags
    poor |= np.abs(value) > FAINTEST
    if sign is not None:
        poor |= ~np.isfinite(sign)
    zero, unit = _zero_points(value[~poor], band, columns)
    magnitude = np.where(poor & ~(np.abs(value) <= FAINTEST), 0.0, value)
    flux = 10 ** (-0.4 * (magnitude - zero))
    flux = np.where(np.abs(value) <= FAINTEST, flux, 0.0)
    flux_err = flux * error * np.log(10) / 2.5
    return flux if sign is None else flux * np.nan_to_num(sign), flux_err, unit, poor, flags


def _zero_points(good: np.ndarray, band: np.ndarray, columns: Columns) -> tuple[np.ndarray | float, str]:
    """Magnitude of one unit of flux for each point, and that unit."""
    names = set(band.tolist())
    middle = float(np.median(good)) if good.size else 0.0
    calibrated = all(sdss_like(name) or name in _VEGA for name in names)
    if columns.unit == "relative" or not calibrated or not -5 < middle < 35:
        return middle, "relative"
    return np.array([AB_NANOJANSKY - _VEGA.get(name, 0.0) for name in band]), "nJy"


def _times(time: np.ndarray, columns: Columns) -> tuple[np.ndarray, str, str, int]:
    if columns.phases:
        return time, "", "", bits("PHASE_FOLDED", "NO_TIME")
    offset, scale, system, sure = to_mjd(float(np.median(time)), columns.system)
    if not np.isfinite(offset):
        return time, "", "", bits("TIME_ZERO_UNKNOWN", "NO_TIME")
    return time + offset, scale, system, 0 if sure else bits("TIME_ZERO_UNKNOWN")


def _position_flag(identity: dict[str, Any]) -> int:
    return bits("NO_POSITION") if identity.get("ra") is None or identity.get("dec") is None else 0
