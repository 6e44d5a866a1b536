"""Shape of the target's segment and of all bright pixels of a stamp: moments, bend, outline, histogram."""

from __future__ import annotations

import numpy as np


def moments(ys: np.ndarray, xs: np.ndarray, weights: np.ndarray) -> tuple[float, float, float, float, float]:
    """Centre, major axis, minor axis and angle of weighted points.

    Parameters
    ----------
    ys, xs : ndarray, shape (n,)
        Positions in pixels.
    weights : ndarray, shape (n,)
        Not negative.

    Returns
    -------
    y, x, major, minor, theta : float
        Centroid, root mean square lengths along the principal axes in pixels (a twelfth of a square pixel added for
        the pixel's own size), angle of the major axis from +x towards +y in radian.
    """
    total = float(weights.sum())
    weights = weights / total if total > 0 else np.full(ys.size, 1 / max(ys.size, 1))
    y, x = float((weights * ys).sum()), float((weights * xs).sum())
    dy, dx = ys - y, xs - x
    yy, xx, xy = (float((weights * a * b).sum()) for a, b in ((dy, dy), (dx, dx), (dx, dy)))
    root = float(np.hypot((xx - yy) / 2, xy))
    mean = (xx + yy) / 2
    theta = 0.5 * float(np.arctan2(2 * xy, xx - yy))
    return y, x, float(np.sqrt(mean + root + 1 / 12)), float(np.sqrt(max(mean - root, 0) + 1 / 12)), theta


def along_axis(ys: np.ndarray, xs: np.ndarray, weights: np.ndarray, theta: float) -> dict[str, float]:
    """Bend, skewness and kurtosis of light along its major axis.

    Parameters
    ----------
    ys, xs, weights : ndarray, shape (n,)
        Positions relative to the centroid, and light.
    theta : float
        Angle of the major axis, radian.

    Returns
    -------
    dict of str to float
        ``bend`` (the curvature of the ridge, in minor per squared major axis, absolute), ``skewness`` (absolute),
        ``kurtosis`` (excess).
    """
    along = xs * np.cos(theta) + ys * np.sin(theta)
    across = -xs * np.sin(theta) + ys * np.cos(theta)
    weights = weights / max(float(weights.sum()), 1e-12)
    width = float(np.sqrt((weights * along**2).sum()))
    thick = float(np.sqrt((weights * across**2).sum()))
    if width <= 0 or thick <= 0:
        return {}
    u, v = along / width, across / thick
    third, fourth = float((weights * u**3).sum()), float((weights * u**4).sum())
    # Least squares of v = a + b u + c u^2; <u> = <uv> = 0 because the axes are principal ones.
    bend = float((weights * v * (u**2 - 1 - third * u)).sum()) / max(fourth - 1 - third**2, 1e-3)
    return {"bend": abs(bend), "skewness": abs(third), "kurtosis": fourth - 3}


def outline(own: np.ndarray, ys: np.ndarray, xs: np.ndarray, major: float, minor: float) -> dict[str, float]:
    """How ragged and how filled the segment is.

    Parameters
    ----------
    own : ndarray of bool, shape (ny, nx)
        The segment.
    ys, xs : ndarray, shape (n,)
        Its pixels.
    major, minor : float
        Root mean square axes of its outline (unweighted), pixels.

    Returns
    -------
    dict of str to float
        ``filled`` (area over that of the ellipse with the same moments) and ``raggedness`` (perimeter squared over
        4 pi area; the perimeter counts pixel edges times pi / 4, so a disk gives 1).
    """
    part = np.pad(own[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1], 1)
    edges = int((part[1:] != part[:-1]).sum() + (part[:, 1:] != part[:, :-1]).sum())
    area = ys.size
    return {
        "filled": area / (4 * np.pi * major * minor),
        "raggedness": (edges * np.pi / 4) ** 2 / (4 * np.pi * area),
    }


def histogram(values: np.ndarray, bins: int = 6) -> dict[str, float]:
    """Shares of pixels by brightness relative to the segment's bright end.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Flux of the segment's pixels.
    bins : int
        Equal bins of the square root of the relative flux.

    Returns
    -------
    dict of str to float
        ``hist_0`` (faintest) to ``hist_<bins - 1>``; they sum to one.
    """
    top = float(np.quantile(values, 0.99))
    scaled = np.sqrt(np.clip(values / top, 0, 1)) if top > 0 else np.zeros(values.size)
    counts = np.bincount(np.minimum((scaled * bins).astype(int), bins - 1), minlength=bins)
    return {f"hist_{i}": float(c / values.size) for i, c in enumerate(counts)}


def segment_shape(flux: np.ndarray, labels: np.ndarray, target: int, sigma: float) -> dict[str, float]:
    """Shape numbers of the target's segment and of all segments together.

    Parameters
    ----------
    flux : ndarray, shape (ny, nx)
        Sky-subtracted flux, 0 where bad.
    labels : ndarray of int, shape (ny, nx)
        Segments.
    target : int
        Label of the target.
    sigma : float
        Sky noise of a pixel.

    Returns
    -------
    dict of str to float
        The catalog's numbers, and ``yc``, ``xc`` (centroid, pixels) and ``theta`` (of the outline,
        radian) for the steps that follow.
    """
    own = labels == target
    ys, xs = np.nonzero(own)
    values = flux[ys, xs]
    light = np.clip(values, 0, None)
    y, x, major, minor, theta = moments(ys, xs, light)
    _, _, flat_major, flat_minor, flat_theta = moments(ys, xs, np.ones(ys.size))
    bright = light >= np.quantile(light, 0.7)
    _, _, core_major, core_minor, _ = moments(ys[bright], xs[bright], light[bright])
    peak = int(np.argmax(light))
    middle = (np.array(flux.shape) - 1) / 2
    all_y, all_x = np.nonzero(labels > 0)
    all_light = np.clip(flux[all_y, all_x], 0, None)
    wide_y, wide_x, wide_major, wide_minor, wide_theta = moments(all_y, all_x, all_light)
    total, everything = float(light.sum()), float(all_light.sum())
    out = {
        "yc": y,
        "xc": x,
        "theta": flat_theta,
        "sn_pixel": float(values.mean() / sigma),
        "sn_peak": float(light[peak] / sigma),
        "area": float(ys.size),
        "centre_distance": float(np.hypot(y - middle[0], x - middle[1]) / (min(flux.shape) / 2)),
        "axis_ratio": minor / major,
        "axis_ratio_flat": flat_minor / flat_major,
        "axis_ratio_core": core_minor / core_major,
        "size_rms": major,
        "offset": float(np.hypot(ys[peak] - y, xs[peak] - x) / major),
        "field_axis_ratio": wide_minor / wide_major,
        "field_size": wide_major / major,
        "field_share": total / everything if everything > 0 else float("nan"),
        "field_offset": float(np.hypot(wide_y - y, wide_x - x) / major),
    }
    out |= outline(own, ys, xs, flat_major, flat_minor)
    out |= along_axis(ys - y, xs - x, light, theta)
    wide = along_axis(all_y - wide_y, all_x - wide_x, all_light, wide_theta)
    out["field_bend"] = wide.get("bend", float("nan"))
    return out | histogram(values)
