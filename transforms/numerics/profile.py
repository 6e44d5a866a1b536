"""Circular growth curves: Petrosian radius, radii that hold a share of the light, concentration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEP = 0.25  #: Pixels of one bin of the growth curve.
ETA = 0.2  #: Petrosian ratio.


@dataclass(frozen=True, slots=True)
class Profile:
    """Radii of one object.

    Parameters
    ----------
    petrosian : float
        Radius in pixels at which the local brightness is a fifth of the mean within (Petrosian 1976).
    found : bool
        False where the brightness never falls so far within the stamp; ``petrosian`` is then the largest radius.
    total : float
        Flux within 1.5 Petrosian radii.
    r20, r50, r80, r90 : float
        Radii in pixels that hold that share of ``total``.
    brightness : float
        Mean flux of a pixel at the Petrosian radius.
    """

    petrosian: float
    found: bool
    total: float
    r20: float
    r50: float
    r80: float
    r90: float
    brightness: float

    def numbers(self) -> dict[str, float]:
        """Numbers for the catalog.

        Returns
        -------
        dict of str to float
            Radii, ``concentration`` (Conselice 2003) and the ratio r50 / r90; no Petrosian radius that was not found.
        """
        out = {
            "r20": self.r20,
            "r50": self.r50,
            "r80": self.r80,
            "r90": self.r90,
            "concentration": float(5 * np.log10(self.r80 / self.r20)),
            "r50_r90": self.r50 / self.r90,
        }
        return out | ({"petrosian": self.petrosian} if self.found else {})


def radial_profile(plane: np.ndarray, y: float, x: float) -> Profile | None:
    """Measure the growth curve about a centre.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Cleaned, sky-subtracted flux.
    y, x : float
        Centre in pixels.

    Returns
    -------
    Profile or None
        None where there is no light to measure.

    Notes
    -----
    A pixel at distance d enters the circle of radius r with the share ``clip(r - d + 1/2, 0, 1)``, so the curve is
    smooth at radii of a pixel or two; it is computed from a histogram of distances, in one pass.
    """
    ny, nx = plane.shape
    yy, xx = np.ogrid[:ny, :nx]
    distance = np.hypot(yy - y, xx - x)
    largest = float(min(max(y, ny - 1 - y), max(x, nx - 1 - x)))
    bins = (distance / STEP + 0.5).astype(np.intp).ravel()
    size = int(largest / STEP) + 1
    inside = bins < size
    if size < 12:
        return None
    width = round(1 / STEP)

    def growth(weights: np.ndarray | None) -> np.ndarray:
        each = np.bincount(bins[inside], None if weights is None else weights.ravel()[inside], minlength=size)
        padded = np.concatenate([np.zeros(width), np.cumsum(each, dtype=np.float64), np.full(width, np.nan)])
        padded[-width:] = padded[-width - 1]
        sums = np.cumsum(np.concatenate([[0.0], padded]))
        return ((sums[width:] - sums[:-width]) / width)[width // 2 : width // 2 + size]

    light, area = growth(plane), growth(None)
    radius = np.arange(size) * STEP
    grid = radius[4:]
    inner, outer = 0.8 * grid, 1.25 * grid
    usable = outer <= radius[-1]
    local = np.interp(outer, radius, light) - np.interp(inner, radius, light)
    local = local / np.maximum(np.interp(outer, radius, area) - np.interp(inner, radius, area), 1e-9)
    mean = light[4:] / np.maximum(area[4:], 1e-9)
    below = np.flatnonzero(usable & (local < ETA * mean))
    at = int(below[0]) if below.size else int(np.flatnonzero(usable)[-1])
    petrosian = float(grid[at])
    end = np.searchsorted(radius, min(1.5 * petrosian, radius[-1]))
    curve = np.maximum.accumulate(light[: end + 1])
    total = float(curve[-1])
    if total <= 0:
        return None
    r20, r50, r80, r90 = (max(float(np.interp(s * total, curve, radius[: end + 1])), 0.3) for s in (0.2, 0.5, 0.8, 0.9))
    return Profile(petrosian, bool(below.size), total, r20, r50, r80, r90, max(float(local[at]), 0.0))
