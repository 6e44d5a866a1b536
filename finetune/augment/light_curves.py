"""What another survey makes of a light curve. Record in, record out.

Every function gives back the very record it got where there is nothing to do: no observation is invented, and none gets
better. Observations are taken away, noise is added, names of filters change to the nearest ones of the other survey.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from transforms.bands import wavelength
from transforms.light_curve import AB_NANOJANSKY, neighbour_scatter
from transforms.numerics.light_curve_clean import VISIT, visits
from transforms.records import LightCurve

FEWEST = 8  #: Good points that a light curve keeps at least.
NEAR = 100.0  #: Nanometres; a filter farther off is another filter.
YEAR = 365.25
GAMMA = 0.039  #: Ivezic et al. (2019), ApJ 873, 111, equation 5.


def cut(record: LightCurve, keep: np.ndarray) -> LightCurve:
    """Keep some of the points.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    keep : ndarray of bool, shape (n,)
        True = kept.

    Returns
    -------
    LightCurve
        The same where all are kept, or less than 8 good ones would be.
    """
    if keep.all() or (keep & ~record.quality).sum() < FEWEST:
        return record
    names = ("time", "flux", "flux_err", "band", "quality")
    return replace(record, **{name: getattr(record, name)[keep] for name in names})


def thinned(record: LightCurve, share: float, rng: np.random.Generator) -> LightCurve:
    """Keep some of the visits, all filters of a visit together.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    share : float
        Of the visits that are kept, 0 to 1.
    rng : Generator
        Draws them.

    Returns
    -------
    LightCurve
        With fewer visits.
    """
    if not record.time.size:
        return record
    codes = np.unique(record.band.astype(str), return_inverse=True)[1]
    visit = visits(record.time, codes, VISIT)
    count = int(visit[-1]) + 1
    kept = rng.permutation(count) < max(round(share * count), 1)
    return cut(record, kept[visit])


def with_seasons(record: LightCurve, dark: float, phase: float) -> LightCurve:
    """Leave out a part of every year.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    dark : float
        Share of the year in which the object is too near to the Sun.
    phase : float
        Where in the year that begins, 0 to 1.

    Returns
    -------
    LightCurve
        With gaps.
    """
    return cut(record, (record.time / YEAR - phase) % 1 >= dark)


def windowed(record: LightCurve, length: float, start: float) -> LightCurve:
    """Keep a stretch of time.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    length : float
        Days.
    start : float
        Where it begins, as a share of what is left over, 0 to 1.

    Returns
    -------
    LightCurve
        The same where it is shorter.
    """
    if not record.time.size or not record.time[-1] - record.time[0] > length:
        return record
    first = record.time[0] + start * (record.time[-1] - record.time[0] - length)
    return cut(record, (record.time >= first) & (record.time <= first + length))


def scheduled(record: LightCurve, interval: float, clear: float, rng: np.random.Generator) -> LightCurve:
    """Keep at most one point of a filter in each interval, and none in bad weather.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    interval : float
        Days between visits in one filter.
    clear : float
        Share of the intervals with good weather.
    rng : Generator
        Draws points and weather.

    Returns
    -------
    LightCurve
        No denser than asked; the same where it is sparser already.
    """
    if not record.time.size:
        return record
    slot = np.floor((record.time - record.time[0]) / interval + rng.random()).astype(int)
    weather = rng.random(int(slot.max()) + 1) < clear
    order = rng.permutation(record.time.size)
    order = order[np.argsort(record.quality[order], kind="stable")]  # a good point before a bad one
    names = np.unique(record.band.astype(str), return_inverse=True)[1]
    _, first = np.unique(np.stack([slot[order], names[order]]), axis=1, return_index=True)
    keep = np.zeros(record.time.size, bool)
    keep[order[first]] = True
    if keep.all():  # as sparse as the survey: its weather took its share already
        return record
    return cut(record, keep & weather[slot])


def keep_bands(record: LightCurve, names: Sequence[str]) -> LightCurve:
    """Keep some filters.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    names : sequence of str
        Filters to keep.

    Returns
    -------
    LightCurve
        The same where less than 8 good points would be left.
    """
    return cut(record, np.isin(record.band.astype(str), list(names)))


def in_bands(record: LightCurve, targets: Sequence[str]) -> LightCurve:
    """Name filters after those of another survey, and drop what it does not have.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    targets : sequence of str
        Filters of the other survey.

    Returns
    -------
    LightCurve
        Each target gets the points of the nearest filter within 100 nm, colour differences and all; the same where
        none of its filters is known or near.
    """
    found: dict[str, tuple[float, str]] = {}
    for target in targets:
        goal = wavelength(target) or 0.0
        near = sorted(
            (abs(w - goal), name) for name in sorted(set(record.band.astype(str)))
            if (w := wavelength(name)) is not None and abs(w - goal) <= NEAR
        )  # fmt: skip
        for distance, name in near:
            if name not in found or distance < found[name][0]:
                found[name] = (distance, target)
                break
    chosen: dict[str, tuple[float, str]] = {}  # one filter for each target: the nearest
    for name, (distance, target) in sorted(found.items()):
        if target not in chosen or distance < chosen[target][0]:
            chosen[target] = (distance, name)
    names = {name: target for target, (_, name) in chosen.items()}
    same = all(name == target for name, target in names.items())
    if not names or (same and set(names) == set(record.band.astype(str))):
        return record
    kept = keep_bands(record, list(names))
    if set(kept.band.astype(str)) - set(names):
        return record
    return replace(kept, band=np.array([names[name] for name in kept.band.astype(str)]))


def known_error(record: LightCurve) -> np.ndarray:
    """One sigma of each point, from the scatter of neighbours where the record has none.

    Parameters
    ----------
    record : LightCurve
        The light curve.

    Returns
    -------
    ndarray of float64, shape (n,)
        In the record's unit.
    """
    error = record.flux_err.astype(np.float64).copy()
    for name in np.unique(record.band.astype(str)):
        inside = (record.band.astype(str) == name) & ~record.quality & np.isfinite(record.flux)
        unknown = (record.band.astype(str) == name) & ~np.isfinite(error)
        if unknown.any():
            error[unknown] = neighbour_scatter(record.flux[inside])
    return error


def to_error(record: LightCurve, error: np.ndarray, rng: np.random.Generator) -> LightCurve:
    """Add what noise is missing.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    error : ndarray, shape (n,)
        One sigma of each point afterwards, in the record's unit; NaN leaves a point as it is.
    rng : Generator
        Source of the noise.

    Returns
    -------
    LightCurve
        With ``flux_err`` of the whole noise where it was known; the same where every point is as noisy already.
    """
    own = known_error(record)
    extra = np.nan_to_num(np.maximum(np.square(error) - np.square(own), 0.0), nan=0.0)
    if not (extra > 0).any():
        return record
    flux = record.flux + rng.normal(size=extra.shape) * np.sqrt(extra)
    whole = np.where(np.isfinite(record.flux_err), np.sqrt(np.square(own) + extra), np.nan)
    return replace(record, flux=flux, flux_err=whole)


def survey_error(record: LightCurve, depth: Mapping[str, float], floor: float) -> np.ndarray:
    """Errors that a survey would have.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    depth : mapping of str to float
        AB magnitude of a point seen at five sigma, by filter; counts where the flux is in nJy.
    floor : float
        Relative error of the brightest points.

    Returns
    -------
    ndarray of float64, shape (n,)
        ``sqrt((floor F)**2 + (0.04 - gamma) F5 F + gamma F5**2)``, Ivezic et al. (2019), equation 5.
    """
    flux = np.maximum(np.nan_to_num(record.flux.astype(np.float64)), 0.0)
    variance = np.square(floor * flux)
    if record.unit == "nJy":
        names = record.band.astype(str)
        limit = np.array([10 ** (-0.4 * (depth[n] - AB_NANOJANSKY)) if n in depth else 0.0 for n in names])
        variance += (0.04 - GAMMA) * limit * flux + GAMMA * limit**2
    return np.sqrt(variance)


def noisier(record: LightCurve, factor: float, rng: np.random.Generator) -> LightCurve:
    """Make all errors larger.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    factor : float
        By which.
    rng : Generator
        Source of the noise.

    Returns
    -------
    LightCurve
        The same for a factor not above 1.
    """
    return to_error(record, factor * known_error(record), rng)


def fainter(record: LightCurve, magnitudes: float, rng: np.random.Generator) -> LightCurve:
    """Dim an object and keep its errors.

    Parameters
    ----------
    record : LightCurve
        The light curve.
    magnitudes : float
        How much fainter.
    rng : Generator
        Source of the noise.

    Returns
    -------
    LightCurve
        The same where nothing is dimmed.
    """
    if not magnitudes > 0 or not math.isfinite(magnitudes):
        return record
    by = 10 ** (-0.4 * magnitudes)
    dimmed = replace(record, flux=record.flux * by, flux_err=record.flux_err * by)
    return to_error(dimmed, known_error(record), rng)
