"""Rebinning that conserves flux, propagates variance and honours masks."""

from __future__ import annotations

import numpy as np

from transforms.numerics.spectra.wavelengths import pixel_edges


def overlaps(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlap of two sets of adjacent pixels, as a sparse list.

    Parameters
    ----------
    old : ndarray of float64, shape (n + 1,)
        Increasing edges.
    new : ndarray of float64, shape (m + 1,)
        Increasing edges.

    Returns
    -------
    i, j : ndarray of int64, shape (k,)
        Old and new pixel of each overlap.
    length : ndarray of float64, shape (k,)
        Its length, in the unit of the edges; ``k <= n + m``.
    """
    cuts = np.sort(np.concatenate([old, new]), kind="stable")
    middle, length = 0.5 * (cuts[1:] + cuts[:-1]), np.diff(cuts)
    use = (length > 0) & (middle > max(old[0], new[0])) & (middle < min(old[-1], new[-1]))
    middle, length = middle[use], length[use]
    return np.searchsorted(old, middle) - 1, np.searchsorted(new, middle) - 1, length


def rebin(
    wavelength: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray | None,
    mask: np.ndarray,
    grid: np.ndarray,
    min_coverage: float = 0.5,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Rebin a flux density to another grid.

    Each new pixel is the mean of the good old ones, weighted by overlap, so that the integral over wavelength is kept
    wherever nothing is masked (Carnall 2017, arXiv:1705.05165). ``ivar`` is that of one new pixel taken alone:
    neighbours that share an old pixel are correlated, which inverse variances cannot say.

    Parameters
    ----------
    wavelength : ndarray of float64, shape (n,)
        Increasing pixel centres.
    flux : ndarray, shape (n,)
        Flux density (per unit of wavelength).
    ivar : ndarray, shape (n,), or None
        Inverse variance; where it is not positive the pixel is not used. None where the errors are unknown.
    mask : ndarray of bool, shape (n,)
        True = bad, not used.
    grid : ndarray of float64, shape (m,)
        Increasing centres of the new pixels.
    min_coverage : float
        Share of a new pixel that good old pixels must cover, else it is masked.

    Returns
    -------
    flux : ndarray of float64, shape (m,)
        Zero where masked.
    ivar : ndarray of float64, shape (m,), or None
        Zero where masked; None where the input was None.
    mask : ndarray of bool, shape (m,)
        True = bad.
    """
    new = pixel_edges(grid)
    i, j, length = overlaps(pixel_edges(wavelength), new)
    good = ~np.asarray(mask, dtype=bool) & np.isfinite(flux)
    if ivar is not None:
        good &= ivar > 0
    kept = good[i]
    i, j, length = i[kept], j[kept], length[kept]
    m = grid.size
    covered = np.bincount(j, length, m)
    bad = covered < min_coverage * np.diff(new)
    safe = np.where(bad, 1.0, covered)
    out = np.bincount(j, length * np.asarray(flux, dtype=np.float64)[i], m) / safe
    out[bad] = 0.0
    if ivar is None:
        return out, None, bad
    variance = np.bincount(j, length**2 / np.asarray(ivar, dtype=np.float64)[i], m)
    weight = np.zeros(m)
    np.divide(covered**2, variance, out=weight, where=~bad & (variance > 0))
    return out, weight, bad


def merge(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join overlapping arms or orders on one grid, weighted by inverse variance.

    Parameters
    ----------
    parts : list of (wavelength, flux, ivar, mask)
        As ``rebin`` takes them.
    grid : ndarray of float64, shape (m,)
        Increasing centres.

    Returns
    -------
    flux, ivar : ndarray of float64, shape (m,)
        Weighted mean and its inverse variance; zero where no part has a good pixel.
    mask : ndarray of bool, shape (m,)
        True = no part has a good pixel.
    """
    total, weight = np.zeros(grid.size), np.zeros(grid.size)
    for wavelength, flux, ivar, mask in parts:
        f, w, bad = rebin(wavelength, flux, ivar, mask, grid)
        w = np.where(bad, 0.0, 0.0 if w is None else w)
        total += f * w
        weight += w
    bad = weight <= 0
    return np.where(bad, 0.0, total / np.where(bad, 1.0, weight)), weight, bad
