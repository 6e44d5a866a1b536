"""Plots of an evaluation: panels, a figure as part of a page, shares and residuals along an axis or on the sky."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.coverage import share_interval

COLOURS = {"learned": "#0b6fb8", "baseline": "#b8860b", "best": "#2e8b57"}
_WRONG = "#c0392b"
_FEWEST, _BINS = 15, 8


def panels(count: int, size: float) -> tuple[Any, list[Any]]:
    """A figure with some panels.

    Parameters
    ----------
    count : int
        Of panels, at least one.
    size : float
        Width of each, inches.

    Returns
    -------
    figure, axes : Figure, list of Axes
        As many axes as asked for.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(count, max(1, int(13 // size)))
    down = -(-count // across)
    figure = Figure(figsize=(across * size, down * size * 0.85), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(down, across)).ravel())
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def image(figure: Any, text: str) -> str:
    """A figure as part of a page.

    Parameters
    ----------
    figure : Figure
        Drawn.
    text : str
        What it shows.

    Returns
    -------
    str
        HTML with the picture inside.
    """
    from base64 import b64encode

    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    data = b64encode(stream.getvalue()).decode()
    words = html.escape(text)
    return f'<figure><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>'


def chunks(values: np.ndarray, most: int = _BINS) -> list[np.ndarray]:
    """Objects in bins of equal number along an axis.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Finite.
    most : int
        Bins.

    Returns
    -------
    list of ndarray of int
        Indices, none empty; fewer bins where they would hold fewer than 15.
    """
    order = np.argsort(values, kind="stable")
    return [part for part in np.array_split(order, max(1, min(most, values.size // _FEWEST))) if part.size]


def share_plot(
    right: Mapping[str, Sequence[bool | None]], along: Sequence[tuple[str, str, Sequence[Any]]], groups: Sequence[str]
) -> Any:
    """Share of right classes along some properties.

    Parameters
    ----------
    right : mapping of str to sequence of bool or None
        For each answer, whether each object's class is right; None where the label does not name one class.
    along : sequence of (str, str, sequence)
        Title, unit and values of each property.
    groups : sequence of str
        Of the split, for the intervals.

    Returns
    -------
    Figure
        A panel for each property, with 95 % intervals.
    """
    figure, axes = panels(len(along), 3.4)
    for axis, (title, unit, values) in zip(axes, along, strict=True):
        known = [i for i, v in enumerate(values) if v is not None and next(iter(right.values()))[i] is not None]
        x = np.array([values[i] for i in known], float)
        for answer, hits in right.items():
            at, shares = [], []
            for part in chunks(x):
                at.append(float(np.median(x[part])))
                shares.append(share_interval([bool(hits[known[i]]) for i in part], [groups[known[i]] for i in part]))
            middle, low, high = np.array(shares, float).T if shares else np.zeros((3, 0))
            off = [np.maximum(middle - low, 0), np.maximum(high - middle, 0)]
            axis.errorbar(
                at,
                middle,
                off,
                fmt="o-",
                ms=3,
                lw=1,
                color=COLOURS[answer],
                label={"baseline": "classical"}.get(answer, answer),
            )
        axis.set(xlabel=f"{title} / {unit}" if unit else title, ylabel="share right", ylim=(0, 1.03))
        if x.size and x.min() > 0 and x.max() > 30 * x.min():
            axis.set_xscale("log")
    axes[0].legend(fontsize=7)
    return figure


def sky_plot(
    ra: Sequence[float | None], dec: Sequence[float | None], values: Mapping[str, Sequence[float | None]], wrong: bool
) -> Any:
    """Where on the sky the answers are off.

    Parameters
    ----------
    ra, dec : sequence of float or None
        Degrees.
    values : mapping of str to sequence of float or None
        For each panel, a residual of each object, or 1 for a class that is right and 0 for one that is not.
    wrong : bool
        True for classes.

    Returns
    -------
    Figure
        A panel for each; residuals as colours up to the 95th percentile of their size.
    """
    figure, axes = panels(len(values), 4.6)
    for axis, (title, column) in zip(axes, values.items(), strict=True):
        known = [
            (r, d, v) for r, d, v in zip(ra, dec, column, strict=True) if None not in (r, d, v)
        ]  # fmt: skip
        x, y, z = np.array(known, float).T if known else np.zeros((3, 0))
        if wrong:
            axis.plot(x[z > 0], y[z > 0], ".", ms=3, color="#bbb", label="right")
            axis.plot(x[z == 0], y[z == 0], "x", ms=5, color=_WRONG, label="wrong")
            axis.legend(fontsize=7)
        elif z.size:
            reach = float(np.quantile(np.abs(z), 0.95)) or 1.0
            drawn = axis.scatter(x, y, c=z, s=9, cmap="coolwarm", vmin=-reach, vmax=reach)
            figure.colorbar(drawn, ax=axis)
        axis.set(title=title, xlabel="right ascension / deg", ylabel="declination / deg")
        axis.title.set_fontsize(9)
        axis.locator_params(axis="x", nbins=5)
        axis.invert_xaxis()
    return figure


def size_plot(sets: Mapping[str, Mapping[str, Any]]) -> Any:
    """Coverage of the sets of each class.

    Parameters
    ----------
    sets : mapping of str to mapping
        For each answer, from ``set_report``.

    Returns
    -------
    Figure
        A panel for each answer, with 95 % intervals and the stated level.
    """
    figure, axes = panels(len(sets), 4.6)
    for axis, (answer, found) in zip(axes, sets.items(), strict=True):
        names = list(found["classes"])
        middle, low, high = np.array([found["classes"][name]["coverage"] for name in names], float).T
        off = [np.maximum(middle - low, 0), np.maximum(high - middle, 0)]
        axis.errorbar(middle, range(len(names)), xerr=off, fmt="o", color=COLOURS[answer])
        axis.axvline(found["level"], color="#999", lw=1)
        axis.set_yticks(range(len(names)), [f"{n} ({found['classes'][n]['mean_size']:.1f})" for n in names], fontsize=8)
        axis.set(title=answer, xlim=(0, 1.02), xlabel="share of sets with the true class (mean size in brackets)")
        axis.invert_yaxis()
    return figure
