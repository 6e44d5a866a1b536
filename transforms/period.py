"""Light curve to measured light curve: outliers marked, period with aliases, amplitudes, shape, colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from transforms import bands as filters
from transforms.flags import bits
from transforms.light_curve import AB_NANOJANSKY, Points, good_points, wild_points
from transforms.numerics import light_curve_features as features
from transforms.numerics.period_search import Period, search
from transforms.numerics.periodogram import Merged, merge_bands
from transforms.period_columns import COLUMNS, FEATURES
from transforms.records import LightCurve

__all__ = ["COLUMNS", "FEATURES", "measure_light_curve"]

FEWEST = 6  #: Good points below which no period is searched.


def measure_light_curve(record: LightCurve, options: Mapping[str, Any]) -> LightCurve:
    """Measure a light curve.

    Parameters
    ----------
    record : LightCurve
        As a reader gave it.
    options : mapping
        ``period_min`` and ``period_max`` in days (0.04 and 1000).

    Returns
    -------
    LightCurve
        With ``measured`` filled, outliers added to ``quality`` and flags set.
    """
    points = good_points(record)
    flags = record.flags
    measured: dict[str, Any] = {**record.measured, "n_points": int(record.time.size), "flux_unit": record.unit}
    quality = record.quality
    wild = wild_points(points)
    if wild.any():
        quality = quality.copy()
        quality[points.index[wild]] = True
        points = points.take(~wild)
        flags |= bits("OUTLIERS")
    if not points.errors_known and points.time.size:
        flags |= bits("NO_ERROR")
    if record.time.size and points.time.size < record.time.size / 2:
        flags |= bits("BAD_DATA")
    if points.time.size == 0:
        return replace(record, measured=measured, flags=flags | bits("NO_DATA", "FEW_POINTS"))
    measured.update(_sampling(points))
    measured.update(_brightness(points, record.unit))
    if len({int(b) for b in points.band}) == 1:
        flags |= bits("ONE_BAND")
    if points.time.size < FEWEST:
        return replace(record, measured=measured, flags=flags | bits("FEW_POINTS"), quality=quality)
    more, more_flags = _variability(points, flags, options)
    measured.update({name: value for name, value in more.items() if value is not None})
    return replace(record, measured=measured, flags=flags | more_flags, quality=quality)


def _sampling(points: Points) -> dict[str, Any]:
    reference = points.band == points.band_most
    low, high = np.percentile(points.magnitude[reference], [5, 95])
    return {
        "n_good": int(points.time.size),
        "n_visits": int(points.visit[-1] + 1),
        "n_bands": len(set(points.band.tolist())),
        "time_span": float(points.time[-1] - points.time[0]),
        "reference_band": points.bands[points.band_most],
        "amplitude": float(high - low),
        "mean_flux": float(np.median(points.flux[reference])),
    }


def _brightness(points: Points, unit: str) -> dict[str, Any]:
    """Mean magnitudes by filter, colours by slot, where the flux is calibrated."""
    out: dict[str, Any] = {}
    if unit != "nJy":
        return out
    magnitude: dict[str, float] = {}
    for code, name in enumerate(points.bands):
        flux = points.flux[points.band == code]
        middle = float(np.median(flux)) if flux.size >= 2 else 0.0
        if middle > 0:
            magnitude[name] = AB_NANOJANSKY - 2.5 * float(np.log10(middle))
            plain = filters.sdss_like(name)
            if plain is not None:
                out.setdefault(f"mean_mag_{plain}", magnitude[name])
    for blue, red in ("ug", "gr", "ri", "iz"):
        if f"mean_mag_{blue}" in out and f"mean_mag_{red}" in out:
            out[f"lc_{blue}_{red}"] = out[f"mean_mag_{blue}"] - out[f"mean_mag_{red}"]
    return out


def _variability(points: Points, flags: int, options: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Distribution, correlation, outburst, and unless the file holds phases the period with its shape."""
    reference = points.band == points.band_most
    merged = merge_bands(points.time, points.magnitude, points.magnitude_err, points.band, len(points.bands))
    found = features.distribution(
        points.time[reference], points.magnitude[reference], np.hypot(points.magnitude_err[reference], 0.01)
    )
    found.update(features.structure_function(merged))
    found.update(features.outburst(points.time[reference], points.flux[reference], points.flux_err[reference]))
    found.update(_ratios(points, merged))
    measured: dict[str, Any] = {}
    more = 0
    if not flags & bits("PHASE_FOLDED"):
        shortest, longest = float(options.get("period_min", 0.04)), float(options.get("period_max", 1000.0))
        period = search(merged, int(points.visit[-1] + 1), shortest, longest)
        if period is not None:
            found.update(features.fourier_shape(period.fit.coefficients[0]))
            found.update(features.folded_shape(merged, period))
            measured, more = _describe(period, merged)
    measured.update({f"lc_{name}": float(value) for name, value in found.items() if np.isfinite(value)})
    return measured, more


def _ratios(points: Points, merged: Merged) -> dict[str, float]:
    """How the scatter changes to the neighbouring filters; the scales of the merger hold it."""
    slots = filters.slots(points.bands)
    reference = slots[points.bands[points.band_most]]
    present = {slot: points.bands.index(name) for name, slot in slots.items()}
    out = {}
    for name, others in (("ratio_blue", range(reference - 1, -1, -1)), ("ratio_red", range(reference + 1, 5))):
        other = next((present[slot] for slot in others if slot in present), None)
        if other is not None and np.sum(points.band == other) >= 5:
            out[name] = -float(np.log(merged.scale[other]))
    return out


def _describe(period: Period, merged: Merged) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {
        "period": period.period,
        "period_err": period.error,
        "period_double": 2 * period.period,
        "double_gain": period.double_gain,
        "fap": period.fap,
        "period_power": period.power,
        "period_margin": period.margin,
        "period_score": period.score,
        "period_alias": period.family,
    }
    for name, value in zip(("period_2", "period_3"), period.others, strict=False):
        found[name] = value
    flags = 0
    if period.fap > 0.01:
        flags |= bits("NOT_PERIODIC")
    if period.period > merged.span / 3:
        flags |= bits("PERIOD_LONG")
    if period.family and period.margin < 3:  # evidence ratio below about twenty
        flags |= bits("PERIOD_ALIAS")
    return found, flags
