"""Errors whose coverage is tested, class by class: Mondrian split conformal prediction.

Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World, doi:10.1007/b106715, chapter 4. The error that
a network states is multiplied by the factor that would have covered the wanted share of held-out objects of the same
class of quality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

POOLED = "all"
LEVELS = (0.6827, 0.9545)  #: One and two sigma of a Gaussian.


def factors(
    error: np.ndarray, scale: np.ndarray, classes: Sequence[str], min_count: int = 60
) -> dict[str, list[list[float]]]:
    """Factors on a stated error, for each class.

    Parameters
    ----------
    error : ndarray, shape (n, k)
        Absolute errors of ``k`` quantities; NaN where the truth is not known.
    scale : ndarray, shape (n, k)
        Stated errors, positive.
    classes : sequence of str
        Class of each object.
    min_count : int
        Of a quantity that fewer objects of a class know, the class uses the factors of all objects.

    Returns
    -------
    dict of str to list
        For each class, and for ``POOLED``, one list for each of ``LEVELS`` with ``k`` factors.
    """
    ratio = error / scale
    names = np.asarray(classes)
    pooled = _quantiles(ratio)
    out = {POOLED: pooled.tolist()}
    for name in sorted(set(classes)):
        part = ratio[names == name]
        enough = np.isfinite(part).sum(axis=0) >= min_count
        if enough.any():
            out[name] = np.where(enough, _quantiles(part), pooled).tolist()
    return out


def lookup(table: dict[str, list[list[float]]], name: str) -> np.ndarray:
    """Factors of a class, or of all where the class was too small.

    Parameters
    ----------
    table : dict
        From ``factors``.
    name : str
        Class.

    Returns
    -------
    ndarray, shape (2, k)
        One row for each of ``LEVELS``.
    """
    return np.asarray(table.get(name, table[POOLED]), dtype=np.float64)


def _quantiles(ratio: np.ndarray) -> np.ndarray:
    out = np.ones((len(LEVELS), ratio.shape[1]))
    for k, values in enumerate(ratio.T):
        known = np.sort(values[np.isfinite(values)])
        for row, level in zip(out, LEVELS, strict=True):
            rank = int(np.ceil(level * (len(known) + 1))) - 1
            row[k] = known[min(rank, len(known) - 1)] if len(known) else 1.0
    return out
