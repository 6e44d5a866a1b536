"""Cut square stamps out of planes; what lies outside of the plane is filled, never dropped."""

from __future__ import annotations

import math

import numpy as np


def stamp_side(radius: float, smallest: int, largest: int) -> int:
    """Side of a stamp that holds a source.

    Parameters
    ----------
    radius : float
        Radius of the source in pixels; NaN counts as nothing known.
    smallest, largest : int
        Limits of the side.

    Returns
    -------
    int
        Even number of pixels.
    """
    side = smallest if not math.isfinite(radius) else 2 * math.ceil(radius)
    return max(smallest, min(largest, side))


def cut(plane: np.ndarray, y: float, x: float, side: int, fill: float | bool) -> np.ndarray:
    """Copy a square about a position.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Native pixels.
    y, x : float
        Middle of the stamp in pixels of the plane (0 = middle of the first pixel); it may lie outside.
    side : int
        Pixels of a side.
    fill : float or bool
        Value of pixels outside of the plane.

    Returns
    -------
    ndarray, shape (side, side)
        A copy, so that a stamp does not keep the whole plane in memory. Pixel ``side // 2`` holds the position.
    """
    y0, x0 = math.floor(y + 0.5) - side // 2, math.floor(x + 0.5) - side // 2
    out = np.full((side, side), fill, dtype=plane.dtype)
    top, bottom = max(y0, 0), min(y0 + side, plane.shape[0])
    left, right = max(x0, 0), min(x0 + side, plane.shape[1])
    if top < bottom and left < right:
        out[top - y0 : bottom - y0, left - x0 : right - x0] = plane[top:bottom, left:right]
    return out


def is_cut_by_edge(shape: tuple[int, int], y: float, x: float, side: int) -> bool:
    """Say whether a stamp reaches beyond its plane.

    Parameters
    ----------
    shape : tuple of int
        ``(ny, nx)`` of the plane.
    y, x : float
        Middle of the stamp.
    side : int
        Pixels of a side.

    Returns
    -------
    bool
        True where at least one pixel lies outside.
    """
    y0, x0 = math.floor(y + 0.5) - side // 2, math.floor(x + 0.5) - side // 2
    return y0 < 0 or x0 < 0 or y0 + side > shape[0] or x0 + side > shape[1]
