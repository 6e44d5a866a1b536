"""Cosmic rays in a single exposure by Laplacian edges (L.A.Cosmic, van Dokkum 2001; astroscrappy)."""

from __future__ import annotations

import numpy as np

SIGNIFICANCE = 4.5
CONTRAST = 5.0  #: Laplacian over fine structure: stars sampled by more than two pixels stay below.
ITERATIONS = 4
STRIP = 512  #: Rows worked on at a time: astroscrappy needs 60 bytes for each pixel.
MARGIN = 64  #: Rows about a strip; more than the iterations can reach, so that strips do not show.


def cosmic_rays(
    flux: np.ndarray, mask: np.ndarray, *, gain: float, level: np.ndarray, noise: np.ndarray, saturation: float | None
) -> np.ndarray:
    """Find pixels hit by cosmic rays. Nothing is replaced: the caller masks them.

    Parameters
    ----------
    flux : ndarray of float32, shape (ny, nx)
        Pixels with or without sky.
    mask : ndarray of bool, shape (ny, nx)
        Bad pixels, which are left alone.
    gain : float
        Electrons per unit.
    level : ndarray of float32, shape (ny, nx)
        Sky that was subtracted from ``flux``, 0 where it is still there.
    noise : ndarray of float32, shape (ny, nx)
        Sky noise in a pixel, in the unit of ``flux``.
    saturation : float or None
        Level above which a pixel is saturated, sky included.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        True = hit.
    """
    middle = np.median(flux[~mask])
    hit = np.zeros(flux.shape, dtype=bool)
    for start in range(0, len(flux), STRIP):
        first, last = max(0, start - MARGIN), min(len(flux), start + STRIP + MARGIN)
        part = slice(first, last)
        found = _in_strip(flux[part], mask[part], middle, gain, level[part], noise[part], saturation)
        hit[start : start + STRIP] = found[start - first : start - first + STRIP]
    return hit & ~mask


def _in_strip(
    flux: np.ndarray,
    mask: np.ndarray,
    middle: float,
    gain: float,
    level: np.ndarray,
    noise: np.ndarray,
    saturation: float | None,
) -> np.ndarray:
    import astroscrappy
    from astroscrappy import astroscrappy as core

    core.dilate5 = dilate5
    # The variance map carries all noise, so that sky photons, read-out and flat field need not be told apart.
    source = np.clip(np.where(mask, 0, flux - middle), 0, None) / gain
    found, _ = astroscrappy.detect_cosmics(
        np.where(mask, 0, flux + level).astype(np.float32),
        inmask=np.ascontiguousarray(mask),
        invar=(noise.astype(np.float32) ** 2 + source).astype(np.float32) * np.float32(gain**2),
        gain=gain,
        sigclip=SIGNIFICANCE,
        objlim=CONTRAST,
        niter=ITERATIONS,
        satlevel=float("inf") if saturation is None else saturation * gain,
        cleantype="medmask",
        sepmed=True,
    )
    return np.asarray(found, dtype=bool)


def dilate5(data: np.ndarray, niter: int) -> np.ndarray:
    """Dilate by a square of five pixels without its corners, one iteration after the other.

    It takes the place of astroscrappy's own, which with more than one iteration gives the same but never frees its
    memory (1.3.0: one byte for each pixel and call, 8 MB an exposure).

    Parameters
    ----------
    data : ndarray of bool, shape (ny, nx)
        Pixels to grow.
    niter : int
        How often.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        Grown.
    """
    from astroscrappy.utils import dilate5 as once

    for _ in range(niter):
        data = once(data, 1)
    return data
