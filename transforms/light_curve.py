"""The usable points of a light curve on a magnitude-like scale: the common ground of measurement and models."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from transforms.numerics.light_curve_clean import VISIT, outliers, visits
from transforms.numerics.periodogram import softened_magnitude
from transforms.records import LightCurve

AB_NANOJANSKY = 31.4  #: AB magnitude of one nJy (Oke & Gunn 1983, ApJ 266, 713).
LARGEST_ERROR = 3.0  #: Magnitude-like; a point with a larger error says nothing.


@dataclass(frozen=True, slots=True)
class Points:
    """Good points of a light curve.

    Parameters
    ----------
    index : ndarray of int, shape (n,)
        Place of each point in the record.
    time : ndarray, shape (n,)
        Days, increasing.
    flux, flux_err : ndarray, shape (n,)
        In the record's unit; errors positive.
    magnitude, magnitude_err : ndarray, shape (n,)
        Softened magnitudes, the zero point of each band arbitrary.
    band : ndarray of int, shape (n,)
        Number of the band in ``bands``.
    bands : tuple of str
        Names, the one with most points first, then by name.
    errors_known : bool
        False where errors were estimated from the scatter of neighbours.
    """

    index: np.ndarray
    time: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    magnitude: np.ndarray
    magnitude_err: np.ndarray
    band: np.ndarray
    bands: tuple[str, ...]
    errors_known: bool

    @property
    def band_most(self) -> int:
        """Number of the band with most points."""
        return int(np.argmax(np.bincount(self.band, minlength=len(self.bands))))

    @property
    def visit(self) -> np.ndarray:
        """Number of the visit of each point."""
        return visits(self.time, self.band, VISIT)

    def take(self, keep: np.ndarray) -> Points:
        """Some of the points.

        Parameters
        ----------
        keep : ndarray of bool, shape (n,)
            True = kept.

        Returns
        -------
        Points
            Bands keep their numbers.
        """
        return replace(
            self,
            index=self.index[keep],
            time=self.time[keep],
            flux=self.flux[keep],
            flux_err=self.flux_err[keep],
            magnitude=self.magnitude[keep],
            magnitude_err=self.magnitude_err[keep],
            band=self.band[keep],
        )


def good_points(record: LightCurve) -> Points:
    """Take what can be used, and put it on a magnitude-like scale.

    Parameters
    ----------
    record : LightCurve
        Sorted by time.

    Returns
    -------
    Points
        Softened magnitudes (asinh; the softening is the median error of the band), so that negative flux has its
        place. Errors that a file lacks are estimated from the differences of neighbours.
    """
    good = ~record.quality & np.isfinite(record.flux) & np.isfinite(record.time)
    known = bool(np.isfinite(record.flux_err[good]).any())
    if known:
        good &= np.isfinite(record.flux_err) & (record.flux_err > 0)
    index = np.flatnonzero(good)
    names, codes, counts = np.unique(record.band[index].astype(str), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    band = np.argsort(order, kind="stable")[codes] if index.size else codes
    flux = record.flux[index].astype(np.float64)
    error = record.flux_err[index].astype(np.float64) if known else np.empty(index.size)
    magnitude, magnitude_err = np.empty(index.size), np.empty(index.size)
    for code in range(names.size):
        inside = band == code
        if not known:
            error[inside] = neighbour_scatter(flux[inside])
        softening = max(float(np.median(error[inside])), 1e-9 * float(np.abs(flux[inside]).max()), 1e-30)
        magnitude[inside], magnitude_err[inside] = softened_magnitude(flux[inside], error[inside], softening)
    points = Points(
        index, record.time[index].astype(np.float64), flux, error, magnitude, magnitude_err, band,
        tuple(str(names[i]) for i in order), known,
    )  # fmt: skip
    return points.take(magnitude_err < LARGEST_ERROR)


def neighbour_scatter(flux: np.ndarray) -> float:
    """Noise of a series from the differences of neighbours.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        Sorted by time.

    Returns
    -------
    float
        One sigma, robust; a thousandth of the median where there are too few points.
    """
    least = max(1e-3 * float(np.median(np.abs(flux))), 1e-12) if flux.size else 1e-12
    if flux.size < 4:
        return least
    return max(1.4826 * float(np.median(np.abs(np.diff(flux)))) / np.sqrt(2), least)


def wild_points(points: Points) -> np.ndarray:
    """Mark outliers.

    Parameters
    ----------
    points : Points
        Good points.

    Returns
    -------
    ndarray of bool, shape (n,)
        True = single wild point.
    """
    return outliers(points.time, points.magnitude, points.band, len(points.bands))
