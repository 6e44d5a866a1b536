"""Period of a light curve: peaks of one periodogram, their aliases, and a re-rank by a shared Fourier series.

Losses of a plain periodogram on survey cadences are aliases, not noise: 44 of 50 misses on Stripe 82 RR Lyrae lie at
one cycle a (sidereal) day from the truth. So the daily and harmonic relatives of every peak compete in a fit that
knows what shapes stars have, and the runner-up and its family are part of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.numerics.harmonic_fit import HarmonicFit, fit_harmonics, harmonics_for
from transforms.numerics.periodogram import Merged, false_alarm_probability, frequency_range, lomb_scargle

N_PEAK = 14
SIDEREAL = 1.0027379  #: Cycles a day of the sky.
YEAR = 365.25
DOUBLE_GAIN = 0.85  #: Twice the period must bring chi2 below this share, since a free fit loves 2P.
MOST_POINTS = 3000
_OFFSETS = (1.0, -1.0, SIDEREAL, -SIDEREAL, 2.0, -2.0)


@dataclass(frozen=True, slots=True)
class Period:
    """Answer of ``search``.

    Parameters
    ----------
    period, error : float
        Days; the error is that of a local peak, not of a wrong alias.
    others : tuple of float
        Runner-up periods of other peaks, best first (up to two).
    double_gain : float
        chi2 at 2P over chi2 at P: well below 1 for a binary with unequal minima.
    fap : float
        False-alarm probability of the highest peak of the periodogram.
    power : float
        Periodogram at the chosen period, 0 to 1.
    margin : float
        Log evidence of the chosen period over the runner-up.
    score : float
        Log evidence of the chosen period over a constant.
    family : str
        How the runner-up relates to the choice: ``"day"``, ``"two_days"``, ``"year"``, ``"harmonic"`` or empty.
    fit : HarmonicFit
        The series at ``period`` (one frequency).
    """

    period: float
    error: float
    others: tuple[float, ...]
    double_gain: float
    fap: float
    power: float
    margin: float
    score: float
    family: str
    fit: HarmonicFit


def find_peaks(power: np.ndarray, count: int) -> np.ndarray:
    """Indices of the highest local maxima.

    Parameters
    ----------
    power : ndarray, shape (m,)
        A periodogram.
    count : int
        How many at most.

    Returns
    -------
    ndarray of int
        Highest first.
    """
    higher = np.concatenate([[True], power[1:] > power[:-1]]) & np.concatenate([power[:-1] >= power[1:], [True]])
    where = np.flatnonzero(higher)
    if where.size > count:
        where = where[np.argpartition(power[where], -count)[-count:]]
    return where[np.argsort(-power[where], kind="stable")]


def relation(frequency: float, other: float, span: float) -> str:
    """How two frequencies are related by the sampling or by the shape.

    Parameters
    ----------
    frequency, other : float
        Per day.
    span : float
        Days covered.

    Returns
    -------
    str
        ``"harmonic"``, ``"day"``, ``"two_days"``, ``"year"`` or empty.
    """
    width = 1.5 / span
    for ratio in (0.5, 2.0, 1 / 3, 3.0, 1.5, 2 / 3):
        if abs(other - ratio * frequency) < width:
            return "harmonic"
    for name, step in (("day", 1.0), ("day", SIDEREAL), ("two_days", 2.0), ("two_days", 2 * SIDEREAL)):
        if abs(abs(other - frequency) - step) < width or abs(other + frequency - step) < width:
            return name
    if span > 1.5 * YEAR and abs(abs(other - frequency) - 1 / YEAR) < width:
        return "year"
    return ""


def candidates(frequency: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Peaks and their relatives.

    Parameters
    ----------
    frequency, power : ndarray, shape (m,)
        A periodogram.

    Returns
    -------
    ndarray, shape (k,)
        Frequencies inside of the searched range, ascending, nearly equal ones once.
    """
    low, high = frequency[0], frequency[-1]
    step = frequency[1] - frequency[0]
    peaks = frequency[find_peaks(power, N_PEAK)]
    slow = frequency < 0.02  # slow stars lose to their own daily alias in the periodogram, so they are searched apart
    found = [peaks, peaks[:6] / 2, peaks[:6] * 2, peaks[:3] / 3]
    found += [np.abs(peaks[:5] + offset) for offset in _OFFSETS]
    if slow.sum() > 3:
        found.append(frequency[slow][find_peaks(power[slow], 3)])
    merged = np.sort(np.concatenate(found))
    merged = merged[(merged >= low) & (merged <= high)]
    return merged[np.concatenate([[True], np.diff(merged) > step])] if merged.size else peaks


def search(merged: Merged, n_epoch: int, shortest: float = 0.04, longest: float = 1000.0) -> Period | None:
    """Find the period.

    Parameters
    ----------
    merged : Merged
        The light curve, bands on one scale.
    n_epoch : int
        Independent visits, for the false-alarm probability.
    shortest, longest : float
        Range of periods, days.

    Returns
    -------
    Period or None
        None where there are fewer than six points or no time span.
    """
    if merged.value.size < 6 or merged.span < 4 * shortest or not np.any(merged.value != merged.value[0]):
        return None
    low, high = frequency_range(merged.time, shortest, longest)
    frequency, power = lomb_scargle(merged, low, high)
    thinned = _thin(merged)
    n_harmonic = harmonics_for(merged.value.size)
    trial, score = _rank(thinned, candidates(frequency, power), n_harmonic, low, high)
    order = np.argsort(-score, kind="stable")
    best = float(trial[order[0]])
    best, gain = _double(thinned, best, n_harmonic, low)
    best = _refined(thinned, best, n_harmonic)
    distinct = [i for i in order if abs(trial[i] - best) > 1.5 / merged.span][:2]
    fit = fit_harmonics(thinned, np.array([best]), n_harmonic)
    near = int(np.argmin(np.abs(frequency - best)))
    top = float(power.max())
    runner = float(trial[distinct[0]]) if distinct else best
    return Period(
        period=1 / best,
        error=_error(thinned, best, fit),
        others=tuple(1 / float(trial[i]) for i in distinct),
        double_gain=gain,
        fap=false_alarm_probability(top, n_epoch, merged.span * (high - low)),
        power=float(power[max(near - 1, 0) : near + 2].max()),
        margin=float(fit.score[0] - score[distinct[0]]) if distinct else 0.0,
        score=float(fit.score[0]),
        family=relation(best, runner, merged.span) if distinct else "",
        fit=fit,
    )


def _thin(merged: Merged) -> Merged:
    """Every k-th point of a very long light curve: the re-rank needs shapes, not every point."""
    step = -(-merged.value.size // MOST_POINTS)
    if step == 1:
        return merged
    keep = slice(None, None, step)
    return Merged(
        merged.time[keep], merged.value[keep], merged.error[keep], merged.band[keep], merged.scale, merged.start
    )


def _rank(
    merged: Merged, centres: np.ndarray, n_harmonic: int, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Refine every candidate within one peak width, and score it: coarse grid, then a fine one about its best."""
    trial, score = centres, np.full(centres.size, -np.inf)
    for width in (np.linspace(-0.36, 0.36, 5), np.linspace(-0.1, 0.1, 3)):
        grid = np.clip(trial[:, None] + width / merged.span, 0.5 * low, 1.02 * high)
        fit = fit_harmonics(merged, grid.ravel(), n_harmonic).score.reshape(grid.shape)
        pick = fit.argmax(1)
        trial, score = grid[np.arange(trial.size), pick], fit.max(1)
    return trial, score - np.log(trial)  # prior: uniform in log period, not in frequency


def _double(merged: Merged, best: float, n_harmonic: int, low: float) -> tuple[float, float]:
    """Choose between P and 2P, whichever of the two the ranking gave; returns the choice and chi2(2P) / chi2(P)."""

    def chi2(frequency: float) -> tuple[float, float]:
        grid = frequency + np.linspace(-0.2, 0.2, 5) / merged.span
        fit = fit_harmonics(merged, grid, n_harmonic).chi2
        return float(fit.min()), float(grid[fit.argmin()])

    single, at_single = chi2(best)
    twice, at_twice = chi2(2 * best)
    if single > DOUBLE_GAIN * twice:  # what was ranked first is twice a period that is as good
        return at_twice, single / max(twice, 1e-12)
    if best / 2 < 0.75 * low:
        return at_single, 1.0
    half, at_half = chi2(best / 2)
    gain = half / max(single, 1e-12)
    return (at_half, gain) if gain < DOUBLE_GAIN**2 else (at_single, gain)


def _refined(merged: Merged, frequency: float, n_harmonic: int) -> float:
    """Top of the peak: two finer grids and a parabola through the best three points."""
    for half_width in (0.12, 0.012):
        grid = frequency + np.linspace(-half_width, half_width, 9) / merged.span
        chi2 = fit_harmonics(merged, grid, n_harmonic).chi2
        lowest = int(chi2.argmin())
        frequency = float(grid[lowest])
    if 0 < lowest < grid.size - 1:
        before, here, after = chi2[lowest - 1 : lowest + 2]
        bend = before - 2 * here + after
        if bend > 0:
            frequency += float(0.5 * (before - after) / bend * (grid[1] - grid[0]))
    return frequency


def _error(merged: Merged, frequency: float, fit: HarmonicFit) -> float:
    """One sigma of the period (Montgomery & O'Donoghue 1999, DSSN 13, 28), all harmonics used."""
    n_harmonic = fit.coefficients.shape[1] // 2
    squares = fit.coefficients[0].reshape(n_harmonic, 2) ** 2
    slope = float(np.sum(squares.sum(1) * np.arange(1, n_harmonic + 1) ** 2))
    noise = fit.chi2[0] / max(np.sum(merged.error**-2), 1e-12)  # mean squared residual
    variance = 6 * noise / (merged.value.size * np.pi**2 * merged.span**2 * max(slope, 1e-12))
    return float(min(np.sqrt(variance), 1 / merged.span) / frequency**2)
