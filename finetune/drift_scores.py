"""Objects to bounded scores, so that every kind of drift becomes a shift of a mean.

A number becomes its normal score: the quantile of a Gaussian at its rank among the reference's, as in the test of van
der Waerden, and beyond the reference's extremes one more for each width of its tail. Its distance from the night's own
median gets a score too (a change of spread that no shift can feign, as in the test of Brown and Forsythe). Nulls, flag
bits and classes are 0 or 1. All numbers together become the score of their Mahalanobis distance from the middle of the
night (scatter, correlations, outliers); embeddings too, and their principal axes are numbers as others are. Such
scores have light tails, whatever the outliers of the data, and still tell far from near.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from sklearn.covariance import LedoitWolf

from transforms.flags import decode

FEWEST = 20  #: Values of a column in the reference, below which it is not watched.
AXES = 8  #: Principal axes of the embeddings that are watched.
CLIP = 12.0  #: Largest score.
OTHER = "other"  #: What the reference never held: flag bits, classes.


class Statistic(NamedTuple):
    """What is watched.

    Parameters
    ----------
    kind : str
        ``value``, ``spread``, ``null``, ``flag``, ``class``, ``joint``, ``embedding``, ``disagreement``, ``reject``,
        ``accuracy``, ``calibration`` or ``error``.
    column : str
        Column of the table, with the class or flag after an equals sign.
    """

    kind: str
    column: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Night:
    """The objects of one night in one table.

    Parameters
    ----------
    name : str
        ``YYYY-MM-DD``.
    groups : ndarray of str, shape (n,)
        File of each object: objects of one file are not independent.
    numbers : mapping of Statistic to ndarray, shape (n,)
        Numbers to be scored, NaN where null; the kind is ``value``, ``disagreement`` or ``error``.
    texts : mapping of str to ndarray of str, shape (n,)
        Classes, ``""`` where null, by column.
    flags : ndarray of int64, shape (n,), or None
        Bits.
    shares : mapping of Statistic to ndarray, shape (n,)
        Scores as they are, from -1 to 1, NaN where not known.
    embedding : ndarray, shape (n, d), or None
        Vectors; a row with NaN is missing.
    """

    name: str
    groups: np.ndarray
    numbers: Mapping[Statistic, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, np.ndarray] = field(default_factory=dict)
    flags: np.ndarray | None = None
    shares: Mapping[Statistic, np.ndarray] = field(default_factory=dict)
    embedding: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Distance:
    """Mahalanobis distance with a shrunk covariance (Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4)."""

    mean: np.ndarray
    precision: np.ndarray
    sorted: np.ndarray

    @classmethod
    def fit(cls, nights: Sequence[np.ndarray]) -> _Distance | None:
        values = np.concatenate([_centred(night) for night in nights])
        good = values[np.isfinite(values).all(1)]
        if len(good) < FEWEST or not good.shape[1]:
            return None
        model = LedoitWolf().fit(good)
        return cls(model.location_, model.precision_, np.sort(model.mahalanobis(good)))

    def scores(self, values: np.ndarray) -> np.ndarray:
        off = _centred(values) - self.mean
        return score(np.einsum("ni,ij,nj->n", off, self.precision, off), self.sorted)


@dataclass(frozen=True, slots=True, eq=False)
class _Axes:
    """Principal axes of vectors, and the sorted values of the reference along each."""

    mean: np.ndarray
    axes: np.ndarray
    sorted: list[np.ndarray]

    @classmethod
    def fit(cls, values: np.ndarray) -> _Axes | None:
        good = values[np.isfinite(values).all(1)]
        if len(good) < FEWEST:
            return None
        mean = good.mean(0)
        _, size, axes = np.linalg.svd(good - mean, full_matrices=False)
        axes = axes[:AXES][size[:AXES] > 1e-9 * size[0]]
        axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
        return cls(mean, axes, [np.sort((good - mean) @ axis) for axis in axes])

    def scores(self, values: np.ndarray) -> list[np.ndarray]:
        return [score((values - self.mean) @ axis, own) for axis, own in zip(self.axes, self.sorted, strict=True)]


def score(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Normal score of each value among the reference's.

    Parameters
    ----------
    values : ndarray, shape (n,)
        NaN stays NaN.
    reference : ndarray, shape (m,)
        Sorted, finite.

    Returns
    -------
    ndarray, shape (n,)
        About a Gaussian of mean 0 and variance 1 for values like the reference's; within ``CLIP`` of 0.
    """
    edge = 0.5 / len(reference)
    inside = ndtri(np.clip(rank(values, reference), edge, 1 - edge))
    low, below, middle, above, high = np.quantile(reference, [0, 0.01, 0.5, 0.99, 1])
    width = np.where(values > middle, high - above, below - low)
    width = np.maximum(width, np.diff(np.quantile(reference, [0.16, 0.84]))[0] / 2)
    beyond = np.maximum(values - high, 0) - np.maximum(low - values, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(inside + np.where(width > 0, beyond / width, 0.0), -CLIP, CLIP)


def rank(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Share of the reference that lies below each value; ties count one half.

    Parameters
    ----------
    values : ndarray, shape (n,)
        NaN stays NaN.
    reference : ndarray, shape (m,)
        Sorted, finite.

    Returns
    -------
    ndarray, shape (n,)
        From 0 to 1.
    """
    below, upto = (np.searchsorted(reference, values, side=side) for side in ("left", "right"))
    return np.where(np.isfinite(values), (below + upto) / (2 * len(reference)), np.nan)


class Scorer:
    """Scores of objects against a reference.

    Parameters
    ----------
    reference : sequence of Night
        With at least one object; fixes what is watched.
    """

    def __init__(self, reference: Sequence[Night]) -> None:
        numbers: dict[Statistic, np.ndarray] = {}
        for name in dict.fromkeys(n for night in reference for n in night.numbers):
            values = _joined([night.numbers[name] for night in reference if name in night.numbers])
            if np.isfinite(values).sum() >= FEWEST:
                numbers[name] = np.sort(values[np.isfinite(values)])
        self.sorted = numbers
        self.spreads = {
            Statistic("spread", name.column): np.sort(_joined([_off(n.numbers.get(name, _NONE)) for n in reference]))
            for name, values in numbers.items()
            if name.kind == "value" and values[0] < values[-1]
        }
        self.spreads = {name: values[np.isfinite(values)] for name, values in self.spreads.items()}
        self.nulls = self._null_patterns(reference)
        seen = int(np.bitwise_or.reduce(_joined([n.flags for n in reference if n.flags is not None], np.int64)))
        self.bits = [bit for bit in range(63) if seen >> bit & 1]
        self.classes = {
            name: sorted({*_joined([n.texts[name] for n in reference if name in n.texts], str).tolist()} - {""})
            for name in dict.fromkeys(t for night in reference for t in night.texts)
        }
        self.shares = list(dict.fromkeys(s for night in reference for s in night.shares))
        vectors = [n.embedding for n in reference if n.embedding is not None]
        self.embedding = _Distance.fit(vectors) if vectors else None
        self.axes = _Axes.fit(np.concatenate(vectors)) if vectors else None
        self.joint = _Distance.fit([self._normal(night) for night in reference])
        self._kept: list[Statistic] | None = None
        self._kept = self._distinct(reference)

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What is watched, in the order of the scores."""
        return tuple(self._kept or ())

    def score(self, night: Night) -> np.ndarray:
        """Scores of the objects of a night.

        Parameters
        ----------
        night : Night
            Of the same table.

        Returns
        -------
        ndarray of float64, shape (n, statistics)
            NaN where an object has no such score.
        """
        found = self._all(night)
        missing = np.full(len(night.groups), np.nan)
        columns = [found.get(name, missing) for name in (found if self._kept is None else self._kept)]
        return np.column_stack(columns) if columns else np.empty((len(night.groups), 0))

    def _all(self, night: Night) -> dict[Statistic, np.ndarray]:
        scores: dict[Statistic, np.ndarray] = {}
        for name, reference in self.sorted.items():
            if name not in night.numbers:
                continue
            scores[name] = score(night.numbers[name], reference)
            spread = Statistic("spread", name.column)
            if name.kind == "value" and spread in self.spreads:
                scores[spread] = score(_off(night.numbers[name]), self.spreads[spread])
        for name, columns in self.nulls.items():
            given = [c for c in columns if c in night.numbers]
            if given:
                scores[name] = np.any([np.isnan(night.numbers[c]) for c in given], axis=0).astype(float)
        scores |= self._flags(night) | self._classes(night)
        scores |= {name: night.shares[name] for name in self.shares if name in night.shares}
        if self.joint is not None:
            scores[Statistic("joint", "all numbers")] = self.joint.scores(self._normal(night))
        if self.embedding is not None and self.axes is not None and night.embedding is not None:
            scores[Statistic("embedding", "distance")] = self.embedding.scores(night.embedding)
            for number, values in enumerate(self.axes.scores(night.embedding), 1):
                scores[Statistic("embedding", f"axis {number}")] = values
        return scores

    def _flags(self, night: Night) -> dict[Statistic, np.ndarray]:
        if night.flags is None:
            return {}
        found = {Statistic("flag", decode(1 << bit)[0]): night.flags >> bit & 1 for bit in self.bits}
        rest = ~np.int64(sum(1 << bit for bit in self.bits))
        found[Statistic("flag", OTHER)] = (night.flags & rest) != 0
        return {name: values.astype(float) for name, values in found.items()}

    def _classes(self, night: Night) -> dict[Statistic, np.ndarray]:
        found: dict[Statistic, np.ndarray] = {}
        for name, values in night.texts.items():
            known = self.classes.get(name, [])
            for value in known:
                found[Statistic("class", f"{name}={value}")] = (values == value).astype(float)
            found[Statistic("class", f"{name}={OTHER}")] = (~np.isin(values, ["", *known])).astype(float)
        return found

    def _normal(self, night: Night) -> np.ndarray:
        """Normal scores of all numbers, zero where one is missing."""
        missing = np.full(len(night.groups), np.nan)
        columns = [
            np.nan_to_num(score(night.numbers.get(name, missing), reference))
            for name, reference in self.sorted.items()
            if name.kind == "value" and reference[0] < reference[-1]
        ]
        return np.column_stack(columns) if columns else np.empty((len(night.groups), 0))

    def _null_patterns(self, reference: Sequence[Night]) -> dict[Statistic, list[Statistic]]:
        """Columns that are null together are watched together."""
        patterns: dict[bytes, list[Statistic]] = {}
        for name in dict.fromkeys(n for night in reference for n in night.numbers if n.kind == "value"):
            parts = [
                np.isnan(n.numbers[name]) if name in n.numbers else np.ones(len(n.groups), bool) for n in reference
            ]
            patterns.setdefault(np.packbits(_joined(parts, bool)).tobytes(), []).append(name)
        return {
            Statistic("null", c[0].column + (f" and {len(c) - 1} more" if len(c) > 1 else "")): c
            for c in patterns.values()
        }

    def _distinct(self, reference: Sequence[Night]) -> list[Statistic]:
        """Statistics whose scores are those of another all through the reference are watched once."""
        found: dict[bytes, Statistic] = {}
        scored = [self._all(night) for night in reference]
        for name in dict.fromkeys(n for scores in scored for n in scores):
            parts = [s.get(name, np.full(len(n.groups), np.nan)) for s, n in zip(scored, reference, strict=True)]
            values = _joined(parts)
            known = values[np.isfinite(values)]
            constant = not len(known) or known.min() == known.max()  # each of these may begin to vary
            found.setdefault(repr(name).encode() if constant else values.tobytes(), name)
        return list(found.values())


_NONE = np.zeros(0)


def _centred(values: np.ndarray) -> np.ndarray:
    """Vectors from the middle of their night."""
    good = values[np.isfinite(values).all(1)]
    return values - np.median(good, axis=0) if len(good) else values


def _off(values: np.ndarray) -> np.ndarray:
    """Distance from the median of the night."""
    good = values[np.isfinite(values)]
    return np.abs(values - np.median(good)) if len(good) else values


def _joined(parts: Sequence[np.ndarray | None], kind: type = float) -> np.ndarray:
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if given else np.zeros(0, kind)
