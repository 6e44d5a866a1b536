"""Sky level and its noise on a mesh (Bertin & Arnouts 1996), with masked pixels left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep

BOX = 64  #: Pixels of a mesh cell; a parameter that changes results, so rows state it.
FILTER = 3  #: Cells of the median filter over the mesh.
SECOND_PASS = 0.5  #: Share of free pixels above which sources are masked; below it the holes between them mislead.
MINIMUM_FREE = 0.1  #: Share of pixels that must be free of sources for a trustworthy sky.


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """Sky of one plane.

    Parameters
    ----------
    level : ndarray of float32, shape (ny, nx)
        Sky level.
    noise : ndarray of float32, shape (ny, nx)
        Standard deviation of the sky in a pixel.
    noise_median : float
        Median of ``noise``: zero for a plane without noise.
    free : float
        Share of all pixels that were neither masked nor in a source.
    """

    level: np.ndarray
    noise: np.ndarray
    noise_median: float
    free: float


def native(plane: np.ndarray) -> np.ndarray:
    """Make a plane that sep takes: float32, native byte order, C-contiguous.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Any numeric type and byte order.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        The plane itself where it fits already.
    """
    return np.ascontiguousarray(plane, dtype=np.float32)


def estimate_sky(flux: np.ndarray, mask: np.ndarray, box: int = BOX) -> Sky:
    """Estimate sky and noise in two passes, the second without the sources that the first shows.

    Parameters
    ----------
    flux : ndarray of float32, shape (ny, nx)
        Pixel values; NaN only where masked.
    mask : ndarray of bool, shape (ny, nx)
        True = not to be used.
    box : int
        Pixels of a mesh cell; made smaller for a plane that is smaller.

    Returns
    -------
    Sky
        Level and noise.

    Raises
    ------
    ValueError
        Where no pixel can be used.
    """
    if mask.all():
        raise ValueError(f"all {mask.size} pixels are masked or not finite")
    plane = native(np.where(mask, np.float32(0), flux))
    box = min(box, *plane.shape)
    first = _mesh(plane, mask, box)
    noise = max(float(first.globalrms), 1e-30)
    bright = _bright(plane - first.back(), noise) & ~mask
    covered = mask | bright
    free = 1 - float(covered.mean())
    # In a crowded field the clipped mesh of the first pass is the better of two bad ones.
    second = _mesh(plane, covered, box) if free > SECOND_PASS else first
    level, scatter = second.back(dtype=np.float32), second.rms(dtype=np.float32)
    return Sky(level=level, noise=scatter, noise_median=float(np.median(scatter)), free=free)


def _mesh(plane: np.ndarray, mask: np.ndarray, box: int) -> sep.Background:
    return sep.Background(plane, mask=np.ascontiguousarray(mask), bw=box, bh=box, fw=FILTER, fh=FILTER)


def _bright(residual: np.ndarray, noise: float) -> np.ndarray:
    """Pixels of sources: 3 x 3 means above five of their own standard deviations, grown by two pixels."""
    from scipy import ndimage

    smooth = ndimage.uniform_filter(residual, 3)
    return ndimage.binary_dilation(smooth > 5 / 3 * noise, iterations=2)
