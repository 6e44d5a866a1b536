"""Lomb-Scargle periodogram of a light curve of several bands, merged onto one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OVERSAMPLING = 2.5  #: Frequencies for each independent one; a peak between two loses less than a seventh of its power.
MOST_FREQUENCIES = 1_000_000
_MAG = 2.5 / np.log(10.0)


@dataclass(frozen=True, slots=True)
class Merged:
    """A light curve of several bands on one scale.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Days since ``start``, increasing.
    value : ndarray, shape (n,)
        Magnitude-like, each band less its mean and times its scale.
    error : ndarray, shape (n,)
        One sigma of ``value``.
    band : ndarray of int, shape (n,)
        Number of the band.
    scale : ndarray, shape (n_band,)
        What each band was multiplied with; 1 for the reference band.
    start : float
        Time of the first point.
    """

    time: np.ndarray
    value: np.ndarray
    error: np.ndarray
    band: np.ndarray
    scale: np.ndarray
    start: float

    @property
    def span(self) -> float:
        """Days from the first point to the last."""
        return float(self.time[-1] - self.time[0]) if self.time.size else 0.0


def softened_magnitude(flux: np.ndarray, error: np.ndarray, softening: float) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes that stay finite for faint and negative flux (Lupton, Gunn & Szalay 1999, AJ 118, 1406).

    Parameters
    ----------
    flux, error : ndarray, shape (n,)
        In any linear unit.
    softening : float
        Flux below which the scale turns linear; about one sigma of the sky.

    Returns
    -------
    magnitude, magnitude_error : ndarray, shape (n,)
        Zero point: one unit of flux is magnitude 0 where it is well above the softening.
    """
    ratio = flux / (2 * softening)
    magnitude = -_MAG * (np.arcsinh(ratio) + np.log(softening))
    return magnitude, _MAG * error / np.sqrt(flux**2 + 4 * softening**2)


def robust_scatter(values: np.ndarray) -> float:
    """Half the distance of the 16th and 84th percentiles.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Finite.

    Returns
    -------
    float
        One sigma for a normal distribution.
    """
    low, high = np.percentile(values, [15.87, 84.13])
    return float(high - low) / 2


def merge_bands(
    time: np.ndarray, value: np.ndarray, error: np.ndarray, band: np.ndarray, n_band: int, floor: float = 0.01
) -> Merged:
    """Put bands on one scale by their scatter in excess of the noise, relative to the band with most points.

    Parameters
    ----------
    time, value, error : ndarray, shape (n,)
        Sorted by time; magnitudes and their errors.
    band : ndarray of int, shape (n,)
        0 to ``n_band - 1``.
    n_band : int
        Number of bands.
    floor : float
        Added to the errors in quadrature: quoted errors of good surveys are too small by about this (mag).

    Returns
    -------
    Merged
        Scales lie between 0.4 and 2.5, so that a band of noise alone is not blown up.
    """
    noise = np.hypot(error, floor)
    centred = np.empty(value.size)
    excess = np.full(n_band, np.nan)
    counts = np.bincount(band, minlength=n_band)
    for index in np.flatnonzero(counts):
        inside = band == index
        weight = noise[inside] ** -2
        centred[inside] = value[inside] - np.sum(weight * value[inside]) / weight.sum()
        if counts[index] >= 5:
            variance = robust_scatter(centred[inside]) ** 2 - np.median(noise[inside]) ** 2
            excess[index] = np.sqrt(max(variance, 0.0))
    reference = excess[int(np.argmax(counts))]
    scale = np.ones(n_band)
    usable = np.isfinite(excess) & (excess > 0)
    if np.isfinite(reference) and reference > 0:
        scale[usable] = np.clip(reference / excess[usable], 0.4, 2.5)
    return Merged(
        time=time - time[0], value=centred * scale[band], error=noise * scale[band], band=band, scale=scale,
        start=float(time[0]),
    )  # fmt: skip


def frequency_range(time: np.ndarray, shortest: float, longest: float) -> tuple[float, float]:
    """Frequencies that the sampling can tell apart.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Days, increasing.
    shortest, longest : float
        Periods asked for, in days.

    Returns
    -------
    low, high : float
        Per day. The lowest is one cycle in the time span; for even sampling the highest is the Nyquist frequency.
    """
    span = float(time[-1] - time[0])
    low, high = 1 / min(longest, span), 1 / shortest
    steps = np.diff(time)
    steps = steps[steps > 0.5 / 86400]
    if steps.size >= 20:
        step = float(np.median(steps))
        if np.mean(np.abs(steps - step) < 0.05 * step) > 0.9:
            high = min(high, 0.5 / step)
    return low, max(high, 2 * low)


def lomb_scargle(merged: Merged, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Floating-mean periodogram on an even grid, by nifty-ls (Garrison et al. 2024, RNAAS 8, 250).

    Parameters
    ----------
    merged : Merged
        The light curve; at least three points and a time span above zero.
    low, high : float
        Frequencies per day.

    Returns
    -------
    frequency, power : ndarray, shape (m,)
        Power is the share of the variance that a sine wave removes, 0 to 1.
    """
    import nifty_ls

    count = int(min(max(OVERSAMPLING * merged.span * (high - low), 64), MOST_FREQUENCIES))
    result = nifty_ls.lombscargle(
        merged.time, merged.value, merged.error, fmin=low, fmax=high, Nf=count, backend="finufft", nthreads=1,
        finufft_kwargs={"eps": 1e-6},
    )  # fmt: skip
    frequency = np.linspace(low, high, count)
    return frequency, np.nan_to_num(result.power, nan=0.0, posinf=0.0, neginf=0.0)


def false_alarm_probability(power: float, n_independent: int, n_frequency: float) -> float:
    """Chance that noise alone gives a peak as high.

    Parameters
    ----------
    power : float
        Height of the peak, 0 to 1.
    n_independent : int
        Independent measurements: epochs, not points, since bands taken together share what is not noise.
    n_frequency : float
        Independent frequencies searched, about the time span times the width of the range.

    Returns
    -------
    float
        Upper bound of Baluev (2008, MNRAS 385, 1279), with the band width written as a number of frequencies.
    """
    if n_independent < 4:
        return 1.0
    power = float(np.clip(power, 0.0, 1 - 1e-12))
    log_single = 0.5 * (n_independent - 3) * np.log1p(-power)
    log_tau = np.log(max(n_frequency, 1.0)) + 0.5 * np.log(np.pi * n_independent * power + 1) + log_single
    return float(-np.expm1(-np.exp(min(log_tau, 50.0)) - np.exp(log_single)))
