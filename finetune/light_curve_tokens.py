"""Light curve to arrays of fixed shape: one token a visit, phases of several periods, and the measured numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transforms import bands as filters
from transforms.flags import bits
from transforms.light_curve import Points, good_points
from transforms.period import FEATURES
from transforms.records import LightCurve

N_TOKEN = 64  #: Visits that the model takes; longer light curves are thinned evenly.
N_SLOT = len(filters.SLOTS)
N_PERIOD = 3
_ANGLES = ("lc_phi21", "lc_phi31", "lc_phi41")
_LOGS = {"lc_chi2": 1e-3, "lc_std": 1e-4, "lc_range_90": 1e-4, "lc_range_50": 1e-4, "lc_mad": 1e-4, "lc_eta_e": 1e-6,
         "lc_roms": 1e-4, "lc_trend_error": 1e-8, "lc_trend_noise": 1e-4, "lc_fit_amplitude": 1e-4,
         "lc_string": 1e-5, "lc_anderson_darling": 1e-4}  # fmt: skip
_COLOURS = ("lc_u_g", "lc_g_r", "lc_r_i", "lc_i_z")
_PLAIN = tuple(name for name in FEATURES if name not in (*_ANGLES, *_LOGS, "lc_trend", "lc_excess_variance", *_COLOURS))
#: Inputs made from the measured columns, in order; the colours come last.
INPUTS = (
    *_PLAIN,
    *(f"log_{name}" for name in _LOGS),
    *(f"{part}_{name}" for name in _ANGLES for part in ("cos", "sin")),
    "trend_snr", "log_period", "log_period_2", "double_gain", "log_fap", "period_power", "log_margin", "log_score",
    "log_visits", "n_bands", "period_in_span", *_COLOURS,
)  # fmt: skip
N_COLOUR = len(_COLOURS)


def _log(value: float | None, least: float) -> float:
    return float(np.log10(max(value, least))) if value is not None else np.nan


def inputs(record: LightCurve) -> np.ndarray:
    """The measured numbers on scales that a model likes.

    Parameters
    ----------
    record : LightCurve
        Measured.

    Returns
    -------
    ndarray of float32, shape (len(INPUTS),)
        In the order of ``INPUTS``; NaN where a number is missing.
    """
    found = record.measured

    def value(name: str) -> float:
        number = found.get(name)
        return float(number) if number is not None else np.nan

    out: dict[str, float] = {name: value(name) for name in (*_PLAIN, *_COLOURS)}
    out.update({f"log_{name}": _log(found.get(name), least) for name, least in _LOGS.items()})
    for name in _ANGLES:
        out[f"cos_{name}"], out[f"sin_{name}"] = float(np.cos(value(name))), float(np.sin(value(name)))
    out["trend_snr"] = float(np.arcsinh(value("lc_trend") / max(value("lc_trend_error"), 1e-12)))
    out["log_period"], out["log_period_2"] = _log(found.get("period"), 1e-3), _log(found.get("period_2"), 1e-3)
    out["double_gain"] = min(value("double_gain"), 3.0)
    out["log_fap"] = _log(found.get("fap"), 1e-30)
    out["period_power"] = value("period_power")
    out["log_margin"] = float(np.arcsinh(value("period_margin")))
    out["log_score"] = float(np.arcsinh(value("period_score")))
    out["log_visits"] = _log(found.get("n_visits"), 1.0)
    out["n_bands"] = min(value("n_bands"), float(N_SLOT))
    out["period_in_span"] = _log(value("period") / max(value("time_span"), 1e-6), 1e-6) if "period" in found else np.nan
    return np.array([out[name] for name in INPUTS], np.float32)


def prepare(record: LightCurve) -> dict[str, np.ndarray]:
    """Make a model's input.

    Parameters
    ----------
    record : LightCurve
        Measured by ``transforms.period``; without measurements only the visits are known.

    Returns
    -------
    dict of str to ndarray
        ``magnitude, log_error, seen`` (N_TOKEN, N_SLOT): deviation from the slot's median over the object's scatter,
        log10 of the error on that scale, 1 where the slot was observed; ``time`` (N_TOKEN,): days from the middle;
        ``phase`` (N_TOKEN, N_PERIOD): cycles of *twice* each period, zero at the maximum of the first harmonic;
        ``valid`` (N_TOKEN,); ``numbers, known`` (len(INPUTS),): from ``inputs``, 0 where missing; ``thinned`` (1,):
        1 where visits were left out.
    """
    points = good_points(record)
    out = {name: np.zeros((N_TOKEN, N_SLOT), np.float32) for name in ("magnitude", "log_error", "seen")}
    time, valid = np.zeros(N_TOKEN, np.float32), np.zeros(N_TOKEN, np.float32)
    phase = np.zeros((N_TOKEN, N_PERIOD), np.float32)
    thinned = 0.0
    if points.time.size and not record.flags & bits("PHASE_FOLDED"):
        visit = points.visit
        count = int(visit[-1]) + 1
        chosen = (
            np.unique(np.linspace(0, count - 1, N_TOKEN).round().astype(int)) if count > N_TOKEN else np.arange(count)
        )
        thinned = float(count > N_TOKEN)
        place = np.full(count, -1)
        place[chosen] = np.arange(chosen.size)
        moments = np.bincount(visit, points.time) / np.bincount(visit)
        time[: chosen.size] = moments[chosen] - 0.5 * (points.time[0] + points.time[-1])
        valid[: chosen.size] = 1
        _fill(out, points, place[visit])
        phase[: chosen.size] = phases(record.measured, points, moments[chosen])
    numbers = inputs(record)
    known = np.isfinite(numbers)
    return {
        **out,
        "time": time,
        "phase": phase,
        "valid": valid,
        "numbers": np.where(known, numbers, 0).astype(np.float32),
        "known": known.astype(np.float32),
        "thinned": np.array([thinned], np.float32),
    }


def _fill(out: dict[str, np.ndarray], points: Any, place: np.ndarray) -> None:
    """Write each point into the row of its visit and the column of its slot."""
    scale = scatter(points)
    for name, slot in filters.slots(points.bands).items():
        inside = points.band == points.bands.index(name)
        if not inside.any():
            continue
        middle = np.median(points.magnitude[inside])
        kept = inside & (place >= 0)
        out["magnitude"][place[kept], slot] = np.clip((points.magnitude[kept] - middle) / scale, -5, 5)
        out["log_error"][place[kept], slot] = np.clip(np.log10(points.magnitude_err[kept] / scale), -3, 1)
        out["seen"][place[kept], slot] = 1


def scatter(points: Points) -> float:
    """Scatter of an object: the one scale of all its bands.

    Parameters
    ----------
    points : Points
        At least one.

    Returns
    -------
    float
        Magnitudes from the 10th to the 90th percentile of the band with most points, at least 0.02.
    """
    low, high = np.percentile(points.magnitude[points.band == points.band_most], [10, 90])
    return max(float(high - low), 0.02)


def phases(measured: Mapping[str, Any], points: Points, moments: np.ndarray) -> np.ndarray:
    """Cycles of twice each candidate period, zero at the maximum; a missing candidate takes the last one's place.

    Parameters
    ----------
    measured : mapping
        With ``period``, ``period_2``, ``period_3`` where they were found.
    points : Points
        Of the whole light curve.
    moments : ndarray, shape (n,)
        When, in the times of ``points``.

    Returns
    -------
    ndarray, shape (n, N_PERIOD)
        0 to 1; zero where no period is known.
    """
    periods = [measured[name] for name in ("period", "period_2", "period_3") if measured.get(name)]
    if not periods:
        return np.zeros((moments.size, N_PERIOD))
    periods += [periods[-1]] * (N_PERIOD - len(periods))
    start = points.time[0]
    columns = []
    for period in periods:
        weight = points.magnitude - np.median(points.magnitude)
        first = np.sum(weight * np.exp(-2j * np.pi * (points.time - start) / period))
        zero = -np.angle(-first) / (2 * np.pi)  # brightest: magnitudes are smallest there
        columns.append((0.5 * ((moments - start) / period - zero)) % 1)
    return np.stack(columns, 1)
