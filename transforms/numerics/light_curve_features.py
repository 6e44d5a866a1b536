"""Numbers of a light curve that tell its kind: distribution, correlation, Fourier shape, eclipses, outburst, colours.

Magnitude-like values throughout; brightness itself, position and date are left out, since they tell the survey and
not the star.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from transforms.numerics.harmonic_fit import evaluate
from transforms.numerics.period_search import Period
from transforms.numerics.periodogram import Merged, robust_scatter

LAGS = (1.0, 10.0, 100.0, 1000.0)  #: Upper edges of the structure function's bins after the first, days.

#: Names of ``distribution``, in order: those of the light-curve package (Malanchev et al. 2021, MNRAS 502, 5147).
DISTRIBUTION = (
    "beyond_1_std", "beyond_2_std", "cusum", "eta_e", "range_90", "range_50", "kurtosis", "pct_ratio_40_5",
    "pct_ratio_20_5", "mad", "near_median", "chi2", "skew", "std", "stetson_k", "anderson_darling", "excess_variance",
    "roms", "trend", "trend_error", "trend_noise",
)  # fmt: skip


@cache
def _extractor() -> Any:
    import light_curve as lc

    return lc.Extractor(
        lc.BeyondNStd(1.0), lc.BeyondNStd(2.0), lc.Cusum(), lc.EtaE(), lc.InterPercentileRange(0.05),
        lc.InterPercentileRange(0.25), lc.Kurtosis(), lc.MagnitudePercentageRatio(0.4, 0.05),
        lc.MagnitudePercentageRatio(0.2, 0.05), lc.MedianAbsoluteDeviation(), lc.MedianBufferRangePercentage(0.1),
        lc.ReducedChi2(), lc.Skew(), lc.StandardDeviation(), lc.StetsonK(), lc.AndersonDarlingNormal(),
        lc.ExcessVariance(), lc.Roms(), lc.LinearTrend(),
    )  # fmt: skip


def distribution(time: np.ndarray, value: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Distribution and correlation of one band.

    Parameters
    ----------
    time, value, error : ndarray, shape (n,)
        Sorted by time; magnitudes and their errors.

    Returns
    -------
    dict of str to float
        ``DISTRIBUTION``; NaN where there are too few points.
    """
    found = np.full(len(DISTRIBUTION), np.nan)
    if time.size >= 5 and np.ptp(value) > 0:
        keep = np.concatenate([[True], np.diff(time) > 0])
        arrays = (np.ascontiguousarray(a[keep], np.float64) for a in (time, value - np.median(value), error))
        found = _extractor()(*arrays, sorted=True, check=False, fill_value=np.nan)
    return dict(zip(DISTRIBUTION, map(float, found), strict=True))


def structure_function(merged: Merged) -> dict[str, float]:
    """Log scatter of pairs of points against their time lag, over that of all points.

    Parameters
    ----------
    merged : Merged
        The light curve.

    Returns
    -------
    dict of str to float
        ``sf_1`` (lags up to a day) to ``sf_1000`` in dex; NaN where a bin holds fewer than 8 pairs.
    """
    step = max(1, -(-merged.value.size // 300))
    time, value, error = merged.time[::step], merged.value[::step], merged.error[::step]
    i, j = np.triu_indices(time.size, 1)
    lag = time[j] - time[i]
    square = (value[j] - value[i]) ** 2 - error[i] ** 2 - error[j] ** 2
    total = max(2 * float(np.var(value)), 1e-8)
    out = {}
    bins = np.digitize(lag, LAGS)
    for index, edge in enumerate(LAGS):
        pairs = square[(bins == index) & (lag > 0.01)] if index == 0 else square[bins == index]
        ratio = max(float(pairs.mean()) / total, 1e-3) if pairs.size >= 8 else np.nan
        out[f"sf_{edge:.0f}"] = 0.5 * float(np.log10(ratio)) if np.isfinite(ratio) else np.nan
    return out


def fourier_shape(coefficients: np.ndarray) -> dict[str, float]:
    """Amplitude ratios and phase differences of the harmonics (Simon & Lee 1981, ApJ 248, 291).

    Parameters
    ----------
    coefficients : ndarray, shape (2 * n_harmonic,)
        ``cos`` and ``sin`` of each harmonic in turn.

    Returns
    -------
    dict of str to float
        ``r21, r31, r41`` and ``phi21, phi31, phi41`` = phi_k - k phi_1 in 0 to 2 pi, cosine series in magnitudes;
        NaN where a harmonic was not fitted.
    """
    pairs = coefficients.reshape(-1, 2)
    amplitude = np.hypot(pairs[:, 0], pairs[:, 1])
    phase = np.arctan2(-pairs[:, 1], pairs[:, 0])  # a cos(x) + b sin(x) = A cos(x + phi)
    out = {}
    for k in (2, 3, 4):
        known = k <= len(pairs) and amplitude[0] > 0
        out[f"r{k}1"] = float(amplitude[k - 1] / amplitude[0]) if known else np.nan
        out[f"phi{k}1"] = float((phase[k - 1] - k * phase[0]) % (2 * np.pi)) if known else np.nan
    return out


def folded_shape(merged: Merged, period: Period) -> dict[str, float]:
    """Shape of the fitted curve, what it leaves, and the two minima at twice the period.

    Parameters
    ----------
    merged : Merged
        The light curve.
    period : Period
        The search's answer.

    Returns
    -------
    dict of str to float
        ``fit_amplitude`` (mag), ``rise`` (share of the cycle from faintest to brightest), ``above`` (share of the
        cycle fainter than the middle), ``explained`` (share of the variance), ``residual_ratio``, ``string``
        (scatter of neighbours in phase over that of all), ``minima_ratio`` (depth of the odd minimum over that of the
        even one at 2P), ``flatness`` (median of the brightest half over the amplitude).
    """
    coefficients = period.fit.coefficients[0]
    curve = evaluate(coefficients, np.linspace(0, 1, 64, endpoint=False))
    amplitude = float(np.ptp(curve))
    phase = (merged.time / period.period) % 1
    residual = merged.value - evaluate(coefficients, phase)
    scatter = robust_scatter(merged.value)
    order = np.argsort(phase, kind="stable")
    steps = np.diff(merged.value[order], append=merged.value[order[0]])
    variance = float(np.var(merged.value))
    return {
        "fit_amplitude": amplitude,
        "rise": float(((curve.argmin() - curve.argmax()) % 64) / 64),
        "above": float(np.mean(curve > (curve.max() + curve.min()) / 2)),
        "explained": 1 - float(period.fit.chi2[0] / max(period.fit.chi2_constant, 1e-12)),
        "residual_ratio": robust_scatter(residual) / max(scatter, 1e-6),
        "string": float(np.mean(steps**2) / max(2 * variance, 1e-12)),
        "minima_ratio": _minima(merged, period.period),
        "flatness": float((np.median(merged.value) - np.percentile(merged.value, 5)) / max(np.ptp(merged.value), 1e-6)),
    }


def _minima(merged: Merged, period: float) -> float:
    """Fold at 2P, bin, and compare the faintest bin with the faintest one of the other half."""
    phase = (merged.time / (2 * period)) % 1
    bins = (phase * 20).astype(int) % 20
    count = np.bincount(bins, minlength=20)
    if merged.value.size < 40 or count.min() == 0:
        return float("nan")
    mean = np.bincount(bins, merged.value, 20) / count
    bright = np.percentile(mean, 25)
    depth = mean - bright
    first = int(depth.argmax())
    other = depth[[(first + 10 + k) % 20 for k in (-1, 0, 1)]].max()
    return float(other / max(depth[first], 1e-6))


def outburst(time: np.ndarray, signal: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """One rise and fall over a quiet level, in flux.

    Parameters
    ----------
    time, signal, error : ndarray, shape (n,)
        Sorted by time; flux of the band that varies most.

    Returns
    -------
    dict of str to float
        ``burst_height`` (log10 of peak over scatter of the faint half), ``burst_width`` (share of the time span in
        which the flux is above half of the peak, from first to last such point), ``burst_share`` (share of points
        there), ``burst_days`` (log10 of that time), ``rise_days`` and ``fall_days`` (log10), ``detected`` (share of
        points above 5 sigma).
    """
    level = float(np.percentile(signal, 20))
    above = signal - level
    smooth = np.sort(above)[-min(3, above.size)]
    half = np.flatnonzero(above >= 0.5 * smooth)
    peak = int(above.argmax())
    faint = above[above <= np.median(above)]
    quiet = max(float(np.std(faint)) if faint.size else 0.0, float(np.median(error)), 1e-12)
    span = max(float(time[-1] - time[0]), 1e-6)
    width = float(time[half[-1]] - time[half[0]])
    return {
        "burst_height": float(np.log10(max(smooth / quiet, 1e-2))),
        "burst_width": width / span,
        "burst_share": half.size / time.size,
        "burst_days": float(np.log10(max(width, 1e-2))),
        "rise_days": float(np.log10(max(time[peak] - time[half[0]], 1e-2))),
        "fall_days": float(np.log10(max(time[half[-1]] - time[peak], 1e-2))),
        "detected": float(np.mean(signal > 5 * error)),
    }
