"""Where an object lies among the training objects: novelty, and classes taught by examples.

A model's embedding is centred, turned into its principal axes and scaled to unit variance along each of them
(whitened). Novelty is the distance to the fifth nearest of up to a thousand training objects there (Sun et al. 2022,
arXiv:2204.06507), with what lies outside of the axes as one more coordinate, in units of what 99 percent of the
validation objects stay below. On three surveys and on garbage it told strangers from known objects better than the
Mahalanobis distance and than distances in the raw or normalised embedding; ``docs/novelty.md`` has the figures.

A taught class is the mean of its examples and a radius around it, where each axis counts by the square root of its
scale: halfway between the raw embedding, in which few axes decide, and the whitened one, in which noise does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from transforms.columns import FLOAT32, FLOAT32_LIST, STRING, Column
from transforms.flags import bits

EMBEDDING = "embedding"  #: Column, and output of a model, with what its head reads.
NEIGHBOUR = 5  #: Which of the nearest training objects the distance is measured to.
AXES = 64  #: Principal axes that are kept, at most.
REFERENCES = 1000  #: Training objects that are kept, at most.
FEWEST = 20  #: Training or validation objects below which nothing can be said.
SHARE = 0.99  #: Of the validation objects that are below a novelty of 1.
FLOOR = 1e-3  #: Smallest scale of an axis, as a share of the largest: below it lies rounding, not signal.
EXAMPLES = 3  #: Fewest examples of a taught class.
INSIDE = 0.01  #: Largest share of the training objects that a taught class may take in.

COLUMNS = (
    Column(
        "novelty", FLOAT32, "", "stat.value",
        "Distance to the training objects in the model's embedding; 99 percent of unseen known objects are below 1",
    ),
    Column("taught_class", STRING, "", "meta.code.class;src.class", "Class taught by examples that the object lies in"),
    Column(
        "taught_distance", FLOAT32, "", "stat.value",
        "Distance to the nearest taught class, in units of its radius: below 1 the object lies in it",
    ),
    Column("embedding", FLOAT32_LIST, "", "stat.value", "What the head of the model reads; null unless asked for"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taught:
    """A class taught by examples.

    Parameters
    ----------
    name : str
        Of the class.
    centre : ndarray, shape (axes,)
        Mean of the examples, where ``EmbeddingSpace.soften`` puts them.
    radius : float
        Largest distance of an object of the class.
    examples : tuple of str
        What it was taught by.
    """

    name: str
    centre: np.ndarray
    radius: float
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """The training objects in the embedding of one model.

    Parameters
    ----------
    mean : ndarray, shape (width,)
        Of the training objects.
    axes : ndarray, shape (width, k)
        Principal axes, unit length.
    scale : ndarray, shape (k,)
        Standard deviation along each.
    rest : float
        Root mean square of what lies outside of the axes.
    references : ndarray, shape (n, k + 1)
        Training objects, whitened.
    unit : float
        Distance that stands for a novelty of 1.
    taught : tuple of Taught
        Further classes.
    """

    mean: np.ndarray
    axes: np.ndarray
    scale: np.ndarray
    rest: float
    references: np.ndarray
    unit: float
    taught: tuple[Taught, ...] = field(default=())

    def whiten(self, vectors: np.ndarray) -> np.ndarray:
        """Coordinates of objects.

        Parameters
        ----------
        vectors : ndarray, shape (n, width)
            Embeddings.

        Returns
        -------
        ndarray, shape (n, k + 1)
            Unit variance along each axis; the last is what lies outside of them.
        """
        centred = np.asarray(vectors, np.float64) - self.mean
        along = centred @ self.axes
        square = (centred**2).sum(1) - (along**2).sum(1)
        outside = np.sqrt(np.clip(square, 0, None)) / self.rest if self.rest else np.zeros(len(centred))
        return np.column_stack([along / self.scale, outside])

    def novelty(self, vectors: np.ndarray) -> np.ndarray:
        """How far objects are from the training objects.

        Parameters
        ----------
        vectors : ndarray, shape (n, width)
            Embeddings.

        Returns
        -------
        ndarray, shape (n,)
            1 where 99 percent of the validation objects are nearer.
        """
        return _nearest(self.whiten(vectors), self.references, NEIGHBOUR) / self.unit

    def soften(self, points: np.ndarray) -> np.ndarray:
        """Coordinates in which classes are taught.

        Parameters
        ----------
        points : ndarray, shape (n, k + 1)
            Whitened.

        Returns
        -------
        ndarray, shape (n, k)
            Each axis by the square root of its scale.
        """
        return points[:, :-1] * np.sqrt(self.scale / self.scale[0])

    def distances(self, taught: Taught, points: np.ndarray) -> np.ndarray:
        """How far objects are from a taught class.

        Parameters
        ----------
        taught : Taught
            The class.
        points : ndarray, shape (n, k + 1)
            Whitened.

        Returns
        -------
        ndarray, shape (n,)
            In units of its radius: below 1 an object lies in it.
        """
        found: np.ndarray = np.sqrt(((self.soften(points) - taught.centre) ** 2).sum(1)) / taught.radius
        return found

    def teach(self, name: str, vectors: np.ndarray, examples: Sequence[str]) -> EmbeddingSpace:
        """Add a class from a handful of examples; one of the same name is replaced.

        Parameters
        ----------
        name : str
            Of the class.
        vectors : ndarray, shape (n, width)
            Embeddings of the examples.
        examples : sequence of str
            Their identifiers.

        Returns
        -------
        EmbeddingSpace
            A copy that knows the class.

        Raises
        ------
        ValueError
            Where the examples are too few, or lie no closer together than training objects of other kinds do.
        """
        if len(vectors) < EXAMPLES:
            raise ValueError(f"class {name!r}: {len(vectors)} examples are too few; {EXAMPLES} are needed")
        points = self.soften(self.whiten(vectors))
        centre = points.mean(0)
        # each example is judged by the mean of the others, as the objects to come will be
        n = len(points)
        own = np.sqrt((((points - centre) * (n / (n - 1))) ** 2).sum(1))
        known = self.soften(self.references)
        limit = float(np.quantile(np.sqrt(((known - centre) ** 2).sum(1)), INSIDE))
        if limit <= float(np.median(own)):
            raise ValueError(
                f"class {name!r}: half of its {n} examples are farther from their mean ({np.median(own):.3g}) than "
                f"{INSIDE:.0%} of the training objects are ({limit:.3g}); they have too little in common in this model"
            )
        radius = min(float(1.25 * own.max()), limit)
        kept = tuple(one for one in self.taught if one.name != name)
        return replace(self, taught=(*kept, Taught(name, centre, radius, tuple(examples))))

    def nearest_taught(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which taught class objects are nearest to.

        Parameters
        ----------
        vectors : ndarray, shape (n, width)
            Embeddings; at least one class has been taught.

        Returns
        -------
        index : ndarray of int, shape (n,)
            Into ``taught``.
        distance : ndarray, shape (n,)
            Over the radius of that class.
        """
        points = self.whiten(vectors)
        far = np.stack([self.distances(one, points) for one in self.taught])
        return far.argmin(0), far.min(0)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What has been learnt, for a bundle.

        Returns
        -------
        arrays, meta : dict of str to ndarray, dict
            For safetensors and for JSON.
        """
        arrays: dict[str, np.ndarray] = {
            "mean": self.mean.astype(np.float32),
            "axes": self.axes.astype(np.float32),
            "scale": self.scale.astype(np.float32),
            "references": self.references.astype(np.float16),
        }
        arrays |= {f"taught_{i}": one.centre.astype(np.float32) for i, one in enumerate(self.taught)}
        taught = [{"name": t.name, "radius": t.radius, "examples": list(t.examples)} for t in self.taught]
        return arrays, {"rest": self.rest, "unit": self.unit, "taught": taught}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> EmbeddingSpace:
        """Take up a saved state.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            From ``state``.
        meta : mapping
            From ``state``.

        Returns
        -------
        EmbeddingSpace
            As it was, in the precision in which it was stored.
        """
        wide = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        taught = tuple(
            Taught(one["name"], wide[f"taught_{i}"], float(one["radius"]), tuple(one["examples"]))
            for i, one in enumerate(meta["taught"])
        )
        return cls(
            wide["mean"], wide["axes"], wide["scale"], float(meta["rest"]), wide["references"], float(meta["unit"]),
            taught,
        )  # fmt: skip


def fit_space(train: np.ndarray, validation: np.ndarray, seed: int = 0) -> EmbeddingSpace | None:
    """Learn the space from the objects that a model was trained on.

    Parameters
    ----------
    train, validation : ndarray, shape (n, width)
        Embeddings of training and validation objects; those that are not finite do not count.
    seed : int
        Of the draw of the references.

    Returns
    -------
    EmbeddingSpace or None
        None where there are fewer than ``FEWEST`` objects of either kind, or all are the same.
    """
    train, validation = _finite(train), _finite(validation)
    if min(len(train), len(validation)) < FEWEST:
        return None
    mean = train.mean(0)
    _, sizes, rows = np.linalg.svd(train - mean, full_matrices=False)
    scale = sizes / np.sqrt(len(train))
    # an axis that less than two objects an axis determine is noise
    kept = min(AXES, len(train) // 2, int((scale > FLOOR * scale[0]).sum()))
    if scale[0] <= 0 or kept < 1:
        return None
    rest = float(np.sqrt((scale[kept:] ** 2).sum()))
    draw = np.random.default_rng(seed).permutation(len(train))[:REFERENCES]
    space = EmbeddingSpace(mean, rows[:kept].T, scale[:kept], rest, np.zeros((0, kept + 1)), 1.0)
    space = replace(space, references=space.whiten(train[np.sort(draw)]))
    unit = float(np.quantile(space.novelty(validation), SHARE))
    # stored in half precision: it says the same before and after
    return EmbeddingSpace.restore(*replace(space, unit=unit).state()) if unit > 0 else None


def space_rows(space: EmbeddingSpace | None, vectors: np.ndarray, keep: bool) -> list[dict[str, Any]]:
    """What the embeddings of a batch say.

    Parameters
    ----------
    space : EmbeddingSpace or None
        None where the model has none.
    vectors : ndarray, shape (n, width)
        Embeddings.
    keep : bool
        Give the embeddings themselves, too.

    Returns
    -------
    list of dict
        ``COLUMNS`` and ``"flags"``; all null for an embedding that is not finite.
    """
    good = np.isfinite(vectors).all(1)
    safe = np.where(good[:, None], vectors, 0)
    novelty = space.novelty(safe) if space is not None else None
    index, distance = space.nearest_taught(safe) if space is not None and space.taught else (None, None)
    rows = []
    for i in range(len(vectors)):
        row: dict[str, Any] = dict.fromkeys((column.name for column in COLUMNS), None)
        flags = 0
        if good[i] and novelty is not None:
            row["novelty"] = float(novelty[i])
            flags |= bits("NOVEL") if novelty[i] > 1 else 0
        if good[i] and space is not None and index is not None and distance is not None:
            row["taught_distance"] = float(distance[i])
            if distance[i] < 1:
                row["taught_class"], flags = space.taught[int(index[i])].name, flags | bits("TAUGHT")
        if good[i] and keep:
            row["embedding"] = vectors[i]
        rows.append({**row, "flags": flags})
    return rows


def _nearest(points: np.ndarray, references: np.ndarray, which: int) -> np.ndarray:
    """Distance to the ``which``-th nearest reference, row by row: no answer depends on its batch mates."""
    n = min(which, len(references)) - 1
    square = [np.partition(((references - point) ** 2).sum(1), n)[n] for point in points]
    return np.sqrt(np.array(square))


def _finite(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors, np.float64)[np.isfinite(vectors).all(1)]
