"""Shares of objects with an interval that stays honest near 0 and 1 and where several objects are one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Share = tuple[float | None, float | None, float | None]


def share_interval(hits: Sequence[bool] | np.ndarray, groups: Sequence[str], level: float = 0.95) -> Share:
    """Share of hits with the interval of Wilson (1927), doi:10.1080/01621459.1927.10502953, over groups.

    Parameters
    ----------
    hits : sequence of bool
        One for each object.
    groups : sequence of str
        Group of each; objects of one group count as one draw.
    level : float
        Of the interval.

    Returns
    -------
    (float, float, float)
        Share, low, high; None for no objects.
    """
    from statistics import NormalDist

    if not len(hits):
        return None, None, None
    share, n = float(np.mean(hits)), len(set(groups))
    z = NormalDist().inv_cdf(0.5 + level / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return share, max(middle - half, 0.0), min(middle + half, 1.0)
