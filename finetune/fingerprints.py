"""What tells one record's data from any other's: a short vector, robust to noise, small shifts and new sampling.

Only what is particular to a record enters: the detail of a stamp after its smooth light is taken out and its contrast
made even, the pixel-to-pixel structure of a spectrum, the ranks of a light curve's fluxes at its dates. Two records are
near-duplicates where their *likeness*, the correlation of these over what both have, is at least the kind's ``least``.
The limits lie above the likest distinct objects of real surveys; ``docs/data_sets.md`` has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.records import Cutout, LightCurve, Spectrum

SIDE = 48  #: Pixels of a stamp's print, whatever the stamp's own.
REACH = 2  #: Shifts that are tried, in pixels of a print.
FEWEST_DETAILS = 60.0  #: Participating pixels below which a stamp is one smooth source: nothing of its own to tell.
GRID = np.geomspace(3000.0, 10000.0, 2048)  #: Angstrom.
FEWEST_PIXELS, FEWEST_POINTS = 200, 20
ENDS = 40  #: Pixels of the grid at either end of a spectrum that are not compared.
DAYS = 512  #: Length of a light curve's print: dates in whole days, modulo this.
FREE = 15.0  #: Independent points from which a light curve's shape is its own.
TOGETHER = 0.02  #: Days within which two points are the same visit.


@dataclass(frozen=True, slots=True)
class Kind:
    """How records of one class are told apart.

    Parameters
    ----------
    vector : callable
        ``vector(record) -> ndarray of float32 or None``: of unit length; None where there is too little to tell.
    likeness : callable
        ``likeness(record, vector, other record, other vector) -> float``: at most 1.
    near : float
        Cosine of two vectors below which the likeness is not looked at.
    least : float
        Likeness of a near-duplicate.
    gap : float
        Largest ratio of the distance of a near-duplicate to that of the next neighbour that is none; 1 for any. It
        tells copies from twins, where different objects look the same.
    """

    vector: Callable[[Any], np.ndarray | None]
    likeness: Callable[[Any, np.ndarray, Any, np.ndarray], float]
    near: float
    least: float
    gap: float = 1.0


def stamp_print(record: Cutout) -> np.ndarray | None:
    """Detail of a stamp: all bands together, on 48 x 48 pixels, without the smooth light, at even contrast.

    Parameters
    ----------
    record : Cutout
        A stamp.

    Returns
    -------
    ndarray of float32, shape (2304,), or None
        None where fewer than ``FEWEST_DETAILS`` pixels hold the detail.
    """
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    there = ~record.mask & np.isfinite(record.flux)
    number = there.sum(axis=0)
    if not number.any():
        return None
    plane = np.where(there, record.flux, 0).sum(axis=0) / np.maximum(number, 1)
    plane = np.where(number > 0, plane, np.median(plane[number > 0])).astype(np.float32)
    how = Image.Resampling.BOX if min(plane.shape) >= SIDE else Image.Resampling.BICUBIC
    small = np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), how), np.float64)
    middle = np.median(small)
    unit = 1.4826 * np.median(np.abs(small - middle))
    unit = unit if unit > 0.02 * small.std() else small.std()  # the second where the noise was cut off
    if not (np.isfinite(unit) and unit > 0):
        return None
    even = np.arcsinh((small - middle) / unit)
    detail = gaussian_filter(even, 0.8) - gaussian_filter(even, 3.0)
    power = detail**2
    if power.sum() ** 2 < FEWEST_DETAILS * (power**2).sum() or not power.any():
        return None
    return _unit(detail / np.sqrt(gaussian_filter(power, 3.0) + 0.05 * power.mean()))


def stamp_likeness(_: Any, one: np.ndarray, __: Any, two: np.ndarray) -> float:
    """Largest correlation of two prints over shifts of up to two of their pixels.

    Parameters
    ----------
    _, __ : Cutout
        Not used.
    one, two : ndarray, shape (2304,)
        Their prints.

    Returns
    -------
    float
        Over the pixels that both have.
    """
    a, b = one.reshape(SIDE, SIDE), two.reshape(SIDE, SIDE)
    steps = range(-REACH, REACH + 1)
    return max(_correlation(a[_cut(y, x)].ravel(), b[_cut(-y, -x)].ravel()) for y in steps for x in steps)


def _cut(y: int, x: int) -> tuple[slice, slice]:
    return slice(max(y, 0), SIDE + min(y, 0)), slice(max(x, 0), SIDE + min(x, 0))


def spectrum_print(record: Spectrum) -> np.ndarray | None:
    """Structure of a spectrum below 30 pixels of a grid of 176 km/s each, continuum divided out.

    Parameters
    ----------
    record : Spectrum
        A spectrum.

    Returns
    -------
    ndarray of float32, shape (2048,), or None
        Zero where the spectrum does not reach; None where it has fewer than 200 good pixels on the grid.
    """
    from scipy.ndimage import gaussian_filter1d

    good = ~record.mask & np.isfinite(record.flux)
    if good.sum() < FEWEST_PIXELS:
        return None
    wavelength, flux = record.wavelength[good], record.flux[good].astype(np.float64)
    there = (wavelength[0] <= GRID) & (wavelength[-1] >= GRID)
    if there.sum() < FEWEST_PIXELS:
        return None
    value = np.where(there, np.interp(GRID, wavelength, flux), 0)
    smooth = gaussian_filter1d(value, 25.0) / np.maximum(gaussian_filter1d(there.astype(float), 25.0), 1e-3)
    floor = 1e-3 * np.abs(smooth[there]).max()
    if not floor > 0:
        return None
    ratio = np.where(there, value / np.where(np.abs(smooth) > floor, smooth, floor), 1) - 1
    detail = np.where(there, ratio - gaussian_filter1d(ratio, 10.0), 0)
    limit = 4 * 1.4826 * np.median(np.abs(detail[there]))
    return _unit(np.clip(detail, -limit, limit)) if limit > 1e-7 else None  # flat to the last bits of float32


def spectrum_likeness(_: Any, one: np.ndarray, __: Any, two: np.ndarray) -> float:
    """Correlation of two prints where both spectra reach, away from their ends.

    Parameters
    ----------
    _, __ : Spectrum
        Not used.
    one, two : ndarray, shape (2048,)
        Their prints.

    Returns
    -------
    float
        -1 where they share less than half of the shorter one.
    """
    both = np.flatnonzero((one != 0) & (two != 0))
    if both.size < 0.5 * min(np.count_nonzero(one), np.count_nonzero(two)):
        return -1.0
    inside = both[(both >= both[0] + ENDS) & (both <= both[-1] - ENDS)]  # a continuum is poorly known at an end
    return _correlation(one[inside], two[inside]) if inside.size > FEWEST_PIXELS / 2 else -1.0


def curve_print(record: LightCurve) -> np.ndarray | None:
    """Ranks of the fluxes of each band, summed by date.

    Parameters
    ----------
    record : LightCurve
        A light curve.

    Returns
    -------
    ndarray of float32, shape (512,), or None
        None where there are fewer than 20 good points, or none differs.
    """
    time, rank, _ = _ranks(record)
    if time.size < FEWEST_POINTS:
        return None
    days = np.bincount(np.floor(time).astype(np.int64) % DAYS, weights=rank, minlength=DAYS)
    return _unit(days) if np.ptp(days) > 0 else None


def curve_likeness(one: LightCurve, _: Any, two: LightCurve, __: Any) -> float:
    """Correlation of the ranks of the fluxes of two light curves, visit by visit.

    Parameters
    ----------
    one, two : LightCurve
        Two light curves.
    _, __ : ndarray
        Not used.

    Returns
    -------
    float
        -1 where fewer than 20 visits, or fewer than half of the shorter curve's, are the same. Its distance from 1
        grows where the curves are so smooth that they hold fewer than ``FREE`` independent points: supernovae of one
        age look alike.
    """
    a, b = _ranks(one), _ranks(two)
    first, second = [], []
    for band in sorted(set(a[2].tolist()) & set(b[2].tolist())):
        mine, theirs = a[2] == band, b[2] == band
        time, other = a[0][mine], b[0][theirs]
        near = np.clip(np.searchsorted(other, time), 1, max(other.size - 1, 1))
        near = np.where(np.abs(other[near - 1] - time) <= np.abs(other[near % other.size] - time), near - 1, near)
        same = np.abs(other[near % other.size] - time) <= TOGETHER
        first.append(a[1][mine][same])
        second.append(b[1][theirs][near[same] % other.size])
    x, y = (np.concatenate(part) if part else np.zeros(0) for part in (first, second))
    if x.size < max(FEWEST_POINTS, 0.5 * min(a[0].size, b[0].size)):
        return -1.0
    return 1 - (1 - _correlation(x, y)) * max(1.0, FREE / _independent(x))


def _independent(values: np.ndarray) -> float:
    """Number of independent points of a series, by its correlation with itself one point later; at least one."""
    slow = max(_correlation(values[:-1], values[1:]), 0.0)
    return max(values.size * (1 - slow) / (1 + slow), 1.0)


def _ranks(record: LightCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, ranks of the fluxes within their band from -0.5 to 0.5, and bands of the good points."""
    good = ~record.quality & np.isfinite(record.flux) & np.isfinite(record.time)
    time, flux, band = record.time[good], record.flux[good], record.band[good]
    rank = np.zeros(flux.size)
    for name in np.unique(band):
        mine = band == name
        _, place = np.unique(flux[mine], return_inverse=True)
        rank[mine] = place / max(int(place.max()), 1) - 0.5 if place.max() else 0.0
    return time, rank, band


def _unit(values: np.ndarray) -> np.ndarray | None:
    apart = np.where(values != 0, values - values[values != 0].mean(), 0).ravel()
    length = float(np.linalg.norm(apart))
    return (apart / length).astype(np.float32) if length > 0 else None


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else -1.0


#: By class of record; a class that is not here has no near-duplicates but exact copies.
KINDS: dict[type, Kind] = {
    Cutout: Kind(stamp_print, stamp_likeness, near=0.25, least=0.55),
    Spectrum: Kind(spectrum_print, spectrum_likeness, near=0.4, least=0.985, gap=0.4),
    LightCurve: Kind(curve_print, curve_likeness, near=0.6, least=0.95),
}
