"""An image on pixels of another size, its light kept: each new pixel takes from the old ones what it covers of them."""

from __future__ import annotations

import numpy as np

from transforms.numerics.spectra.resample import overlaps

MIN_COVERAGE = 0.5  #: Share of a new pixel that good old pixels have to cover.


def coverage_matrix(n: int, factor: float) -> np.ndarray:
    """Shares of old pixels that fall on new ones, along one axis, about the same centre.

    Parameters
    ----------
    n : int
        Old pixels.
    factor : float
        Size of a new pixel in old ones, at least 1.

    Returns
    -------
    ndarray of float64, shape (m, n)
        Columns of sum one, as far as the new pixels reach; ``m`` is as large as fits, and as odd or even as ``n``
        where it can be, so that a centre on a pixel stays on one.
    """
    m = max(int(n / factor + 1e-9), 1)
    m -= int((m - n) % 2 and m > 1)
    old, new = np.arange(n + 1) - n / 2, (np.arange(m + 1) - m / 2) * factor
    i, j, length = overlaps(old, new)
    matrix = np.zeros((m, n))
    np.add.at(matrix, (j, i), length)  # edges that all but coincide give a sliver beside the pixel itself
    return matrix


def rescale_plane(
    flux: np.ndarray, variance: np.ndarray | None, good: np.ndarray, factor: float
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Put an image on larger pixels.

    Parameters
    ----------
    flux : ndarray, shape (ny, nx)
        Light in each pixel.
    variance : ndarray, shape (ny, nx), or None
        Of each pixel, taken as independent of its neighbours.
    good : ndarray of bool, shape (ny, nx)
        Pixels to use.
    factor : float
        Size of a new pixel in old ones, at least 1.

    Returns
    -------
    flux : ndarray of float64, shape (my, mx)
        Light in each pixel; where a part of it is bad, scaled to the whole pixel. 0 where bad.
    variance : ndarray of float64, shape (my, mx), or None
        Of each pixel taken alone.
    good : ndarray of bool, shape (my, mx)
        False where good old pixels cover less than half.

    Raises
    ------
    ValueError
        For a factor below 1: smaller pixels would show what was not seen.
    """
    if not factor >= 1:
        raise ValueError(f"pixels {factor:g} times as large as before would show what was not seen")
    rows, columns = coverage_matrix(flux.shape[0], factor), coverage_matrix(flux.shape[1], factor)
    covered = rows @ good.astype(np.float64) @ columns.T / factor**2
    kept = covered >= MIN_COVERAGE
    safe = np.where(kept, covered, 1.0)
    out = np.where(kept, rows @ np.where(good, flux, 0.0).astype(np.float64) @ columns.T / safe, 0.0)
    if variance is None:
        return out, None, kept
    spread = rows**2 @ np.where(good, variance, 0.0).astype(np.float64) @ columns.T**2 / safe**2
    return out, np.where(kept, spread, 0.0), kept
