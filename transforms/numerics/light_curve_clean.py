"""Order, duplicates, outliers and visits of the points of a light curve."""

from __future__ import annotations

import numpy as np

from transforms.numerics.periodogram import robust_scatter

VISIT = 15 / 1440  #: Points of different bands within 15 minutes belong to one visit (days).


def order_points(time: np.ndarray, band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorting order, and which points repeat another.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Days.
    band : ndarray, shape (n,)
        Name or number of the band of each point.

    Returns
    -------
    order : ndarray of int, shape (n,)
        Stable order by time, then band.
    duplicate : ndarray of bool, shape (n,)
        In sorted order: True where time and band equal those of an earlier point.
    """
    codes = np.unique(band, return_inverse=True)[1]
    order = np.lexsort((codes, time))
    same = np.zeros(time.size, bool)
    if time.size:
        same[1:] = (np.diff(time[order]) == 0) & (np.diff(codes[order]) == 0)
    return order, same


def visits(time: np.ndarray, band: np.ndarray, width: float = VISIT) -> np.ndarray:
    """Group points taken together: one token, one epoch.

    Parameters
    ----------
    time : ndarray, shape (n,)
        Days, increasing.
    band : ndarray of int, shape (n,)
        Number of the band.
    width : float
        Days that a visit may last.

    Returns
    -------
    ndarray of int, shape (n,)
        Number of the visit, from 0. A band occurs at most once in a visit, so that fast series stay apart.
    """
    out = np.zeros(time.size, np.int64)
    if time.size == 0 or band.min() == band.max():
        return np.arange(time.size)
    visit, first = 0, time[0]
    seen: set[int] = set()
    for index, (moment, code) in enumerate(zip(time.tolist(), band.tolist(), strict=True)):
        if moment - first > width or code in seen:
            visit, first, seen = visit + 1, moment, set()
        seen.add(code)
        out[index] = visit
    return out


def outliers(
    time: np.ndarray, value: np.ndarray, band: np.ndarray, n_band: int, clip: float = 5.0, least: float = 0.3
) -> np.ndarray:
    """Mark single wild points, not eclipses, flares or supernovae.

    Parameters
    ----------
    time, value : ndarray, shape (n,)
        Sorted by time; magnitudes.
    band : ndarray of int, shape (n,)
        Number of the band.
    n_band : int
        Number of bands.
    clip : float
        In robust standard deviations of the band.
    least : float
        In magnitudes: no closer point is an outlier.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where a point lies beyond both limits, at most a fiftieth of the band's points do so, and no other band
        agrees within a visit.
    """
    away = np.zeros(value.size)
    wild = np.zeros(value.size, bool)
    for index in range(n_band):
        inside = np.flatnonzero(band == index)
        if inside.size < 8:
            continue
        middle = np.median(value[inside])
        sigma = max(1.4826 * float(np.median(np.abs(value[inside] - middle))), 1e-6)
        away[inside] = (value[inside] - middle) / max(sigma, robust_scatter(value[inside]) / 2)
        far = np.abs(value[inside] - middle) > max(clip * sigma, least)
        if 0 < far.sum() <= max(1, inside.size // 50):
            wild[inside[far]] = True
    for place in np.flatnonzero(wild):
        near = (np.abs(time - time[place]) < VISIT) & (band != band[place])
        if np.any(away[near] * np.sign(away[place]) > 2.5):
            wild[place] = False
    return wild
