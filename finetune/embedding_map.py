"""A map of objects in two dimensions: where they lie in the embedding of a model, on axes that never change with it.

The axes are the first two principal components of the training objects, which every bundle stores; so two nights, or
two surveys, can be laid on each other, and a million objects cost a product of two matrices. Maps that are made from
the objects themselves (t-SNE: van der Maaten & Hinton 2008; UMAP: McInnes et al. 2018, arXiv:1802.03426) part classes
more nicely, but each is another one, and distances on them mean nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.embedding_space import EmbeddingSpace

SHOWN = 20_000  #: Objects that are drawn, at most; novel and taught ones come first.
EDGE = 0.002  #: Share of the objects beyond each border; they are drawn on it.
NO_ANSWER = "no answer"  #: What an object without a value is called.
_MANY = 12  #: Classes with a colour of their own; the rarest of more are grey.
_OTHER = "#9a9a9a"


def flatten(space: EmbeddingSpace, vectors: np.ndarray) -> np.ndarray:
    """Places of objects on the map.

    Parameters
    ----------
    space : EmbeddingSpace
        Of the model.
    vectors : ndarray, shape (n, width)
        Embeddings.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        In standard deviations of the training objects.
    """
    return _two(space.whiten(vectors))


def held(space: EmbeddingSpace) -> float:
    """Share of the variance of the training objects that the map shows.

    Parameters
    ----------
    space : EmbeddingSpace
        Of the model.

    Returns
    -------
    float
        0 to 1.
    """
    square = space.scale**2
    return float(square[:2].sum() / (square.sum() + space.rest**2))


def draw_map(
    space: EmbeddingSpace,
    points: np.ndarray,
    values: Sequence[str | float | None],
    novel: Sequence[bool],
    taught: Sequence[str | None],
    what: str,
    seed: int = 0,
) -> Any:
    """Draw a map.

    Parameters
    ----------
    space : EmbeddingSpace
        Of the model; its training objects lie below, in light grey.
    points : ndarray, shape (n, 2)
        From ``flatten``.
    values : sequence of str, float or None
        Classes or numbers that give the colours.
    novel : sequence of bool
        Objects far from all training objects: ringed.
    taught : sequence of str or None
        Taught classes: crosses.
    what : str
        What the values are, with the unit.
    seed : int
        Of the draw where there are too many.

    Returns
    -------
    matplotlib.figure.Figure
        The map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    below = _two(space.references)
    strange, lessons = np.asarray(novel, bool), np.array([name is not None for name in taught], bool)
    points = _within(points, below)
    figure = Figure(figsize=(8.6, 6.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(*_within(below, below, points).T, ".", ms=3, color="#dddddd", label="training objects", zorder=0)
    drawn = _draw_of(strange | lessons, seed)
    _colour(figure, axis, points, values, drawn, what)
    if strange.any():
        ring: dict[str, Any] = {"mfc": "none", "mec": "black", "mew": 0.7, "ms": 7}
        axis.plot(*points[strange].T, "o", label=f"novel ({int(strange.sum())})", zorder=3, **ring)
    for name in sorted({one for one in taught if one is not None}):
        mine = np.array([one == name for one in taught])
        axis.plot(*points[mine].T, "x", ms=7, mew=1.4, label=f"taught: {name} ({int(mine.sum())})", zorder=4)
    axis.set(xlabel="first principal axis / s.d. of the training objects", ylabel="second principal axis / s.d.")
    axis.set_title(f"{len(points)} objects; the two axes hold {held(space):.0%} of the variance", fontsize=10)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0 if isinstance(_first(values), str) else 1.16, 0.5))
    return figure


def _colour(
    figure: Any, axis: Any, points: np.ndarray, values: Sequence[str | float | None], drawn: np.ndarray, what: str
) -> None:
    """Some of the objects in their colours; the legend counts all."""
    from matplotlib import colormaps

    first = _first(values)
    if isinstance(first, str) or first is None:
        counts = Counter(one if one is None else str(one) for one in values)
        ranked = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
        # the colours follow the names, so that two maps of the same classes can be compared
        colours = dict(zip(sorted(ranked[:_MANY]), (colormaps["Paired"](i) for i in range(_MANY)), strict=False))
        for name in [*sorted(ranked), *([None] if None in counts else [])]:
            mine = [i for i in drawn.tolist() if values[i] == name]
            label = f"{NO_ANSWER if name is None else name} ({counts[name]})"
            axis.plot(*points[mine].T, ".", ms=6, color=colours.get(str(name), _OTHER), label=label, zorder=2)
        return
    numbers = np.array([np.nan if one is None else float(one) for one in values])
    low, high = np.nanquantile(numbers, [0.02, 0.98])
    spots = axis.scatter(*points[drawn].T, c=numbers[drawn], s=8, vmin=low, vmax=high, cmap="viridis", zorder=2)
    figure.colorbar(spots, ax=axis, label=what)


def _first(values: Sequence[str | float | None]) -> str | float | None:
    return next((one for one in values if one is not None), None)


def _two(points: np.ndarray) -> np.ndarray:
    """First two whitened coordinates; the last column of a space is not an axis."""
    along = points[:, :-1][:, :2]
    return along if along.shape[1] == 2 else np.column_stack([along[:, 0], np.zeros(len(along))])


def _within(points: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Points with those far outside drawn to the border of where the others lie."""
    every = np.concatenate([points, *others])
    low, high = np.quantile(every, [EDGE, 1 - EDGE], axis=0)
    room = 0.05 * (high - low)
    return np.clip(points, low - room, high + room)


def _draw_of(first: np.ndarray, seed: int) -> np.ndarray:
    rest = np.random.default_rng(seed).permutation(np.flatnonzero(~first))
    marked = np.flatnonzero(first)[:SHOWN]
    return np.sort(np.concatenate([marked, rest[: max(SHOWN - len(marked), 0)]]))
