"""Rotational asymmetry about a half-pixel centre, by exact flips."""

from __future__ import annotations

import numpy as np

from transforms.numerics.profile import Profile


def opposite(plane: np.ndarray, y2: int, x2: int, fill: float | bool) -> np.ndarray:
    """Rotate a plane by 180 degrees about a point: an exact flip, no interpolation.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Any plane.
    y2, x2 : int
        Twice the centre of rotation in pixels, so that half pixels are allowed.
    fill : float or bool
        Value of pixels whose opposite lies outside.

    Returns
    -------
    ndarray, shape (ny, nx)
        A new array.
    """
    out = np.full(plane.shape, fill, plane.dtype)
    ny, nx = plane.shape
    y0, y1 = max(0, y2 - ny + 1), min(ny, y2 + 1)
    x0, x1 = max(0, x2 - nx + 1), min(nx, x2 + 1)
    if y0 < y1 and x0 < x1:
        out[y0:y1, x0:x1] = plane[y0:y1, x0:x1][::-1, ::-1]
    return out


def asymmetry_centre(plane: np.ndarray, y: float, x: float, radius: float) -> tuple[float, float]:
    """Centre of lowest rotational asymmetry on a half-pixel grid, by descent from a first guess.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Cleaned flux.
    y, x : float
        First guess.
    radius : float
        Only pixels this near to the guess count.

    Returns
    -------
    y, x : float
        Multiples of one half pixel.
    """
    ny, nx = plane.shape
    yy, xx = np.ogrid[:ny, :nx]
    window = np.where((yy - y) ** 2 + (xx - x) ** 2 <= radius**2, plane, 0)
    best = (round(2 * y), round(2 * x))
    known: dict[tuple[int, int], float] = {}

    def cost(at: tuple[int, int]) -> float:
        if at not in known:
            known[at] = float(np.abs(window - opposite(window, *at, 0.0)).sum())
        return known[at]

    for _ in range(8):
        around = [(best[0] + dy, best[1] + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        lowest = min(around, key=cost)
        if cost(lowest) >= cost(best):
            break
        best = lowest
    return best[0] / 2, best[1] / 2


def asymmetries(plane: np.ndarray, own: np.ndarray, y: float, x: float, profile: Profile, sigma: float) -> dict:
    """Rotational, quarter-turn, outer and shape asymmetry.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Cleaned flux.
    own : ndarray of bool, shape (ny, nx)
        Pixels of the target's segment.
    y, x : float
        Centre, multiples of one half.
    profile : Profile
        Radii of the object.
    sigma : float
        Sky noise of a pixel.

    Returns
    -------
    dict of str to float
        ``asymmetry`` (Conselice 2003, within 1.5 Petrosian radii, noise term taken off), ``asymmetry_90``,
        ``asymmetry_outer`` (beyond r50) and ``asymmetry_shape`` (of the mask, Pawlik et al. 2016).
    """
    y2, x2 = round(2 * y), round(2 * x)
    ny, nx = plane.shape
    yy, xx = np.ogrid[:ny, :nx]
    distance = np.hypot(yy - y, xx - x)
    inside = distance <= 1.5 * profile.petrosian
    outer = inside & (distance > profile.r50)
    noise = 2 * sigma / np.sqrt(np.pi)  # mean |n1 - n2| of two Gaussian deviates
    half = np.abs(plane - opposite(plane, y2, x2, 0.0))

    def index(difference: np.ndarray, where: np.ndarray) -> float:
        light = float(np.abs(plane[where]).sum())
        return float((difference[where].sum() - noise * where.sum()) / light) if light > 0 else 0.0

    side = int(min(1.5 * profile.petrosian, max(ny, nx))) + 1
    yi, xi = round(y), round(x)
    square = np.pad(plane, side)[yi : yi + 2 * side + 1, xi : xi + 2 * side + 1]
    disk = np.pad(inside, side)[yi : yi + 2 * side + 1, xi : xi + 2 * side + 1]
    light = float(np.abs(square[disk]).sum())
    quarter = float((np.abs(square - np.rot90(square))[disk].sum() - noise * disk.sum()) / light) if light > 0 else 0.0
    shape = np.abs(own.astype(float) - opposite(own, y2, x2, False)).sum() / (2 * max(int(own.sum()), 1))
    return {
        "asymmetry": index(half, inside),
        "asymmetry_90": quarter,
        "asymmetry_outer": index(half, outer),
        "asymmetry_shape": float(shape),
    }
