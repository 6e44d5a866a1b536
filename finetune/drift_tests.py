"""How far may the mean of a night lie from those of the reference nights, if nothing has changed?

The mean of a night scatters by what differs from night to night (tau) and by the chance of its files. Both are
estimated from the reference as in a meta-analysis with random effects (DerSimonian & Laird 1986,
doi:10.1016/0197-2456(86)90046-2), and the next night is held against the prediction interval of Student's t (Higgins,
Thompson & Spiegelhalter 2009, doi:10.1111/j.1467-985X.2008.00552.x). A few nights tell little about tau, but there are
many statistics: each borrows degrees of freedom from all of them (Smyth 2004, doi:10.2202/1544-6115.1027), unless it
scatters more than they do (as in Phipson et al. 2016, doi:10.1214/16-AOAS920). Shares are compared as the arc sine of
their root, which scatters evenly, and those of what is rare have exact predictive probabilities by file. An alarm
needs a second, exact test too, where there are files enough: the files of the night and of the reference dealt anew,
with the largest of all statistics (Westfall & Young 1993). So the rate of false alarms holds if the nights scatter as
a t distribution says, or if files are exchangeable; it needs not both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import betabinom, f, t

BLOCKS = 8  #: Bundles of files of one night that are dealt together: enough for the exact test, and fast.
FILES = 5  #: Files of a night (median of the reference) from which on they are dealt anew.
STEADY = 0.9  #: Share of reference nights with a case, below which cases are rare.
CHUNK = 4096
FEWEST = 10  #: Statistics that can lend each other degrees of freedom.
BORROWED = 3.0  #: At most so many times a statistic's own degrees of freedom.
OUTSTANDING = 0.1  #: Chance below which a statistic's scatter is not the usual one.


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Scores of one night, added up by file.

    Parameters
    ----------
    total, count : ndarray of float64, shape (files, statistics)
        Sum of the scores, and how many there are.
    square : ndarray of float64, shape (statistics,)
        Sum of the squares over all files.
    """

    total: np.ndarray
    count: np.ndarray
    square: np.ndarray

    def mean(self) -> np.ndarray:
        """Mean score over the objects of the night.

        Returns
        -------
        ndarray, shape (statistics,)
            NaN where there is none.
        """
        return _ratio(self.total.sum(0), self.count.sum(0))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Some nights against the reference.

    Parameters
    ----------
    mean, reference : ndarray, shape (statistics,)
        Mean scores.
    z : ndarray, shape (statistics,)
        Difference over its predicted scatter; NaN where nothing can be said.
    p : ndarray, shape (statistics,)
        Two-sided chance of one statistic alone; 1 where nothing can be said.
    """

    mean: np.ndarray
    reference: np.ndarray
    z: np.ndarray
    p: np.ndarray


def add_up(scores: np.ndarray, groups: np.ndarray) -> Sums:
    """Add up scores by file.

    Parameters
    ----------
    scores : ndarray, shape (n, statistics)
        NaN where an object has none.
    groups : ndarray of str, shape (n,)
        File of each object.

    Returns
    -------
    Sums
        Files in sorted order.
    """
    names, index = np.unique(groups, return_inverse=True)
    known = np.isfinite(scores)
    filled = np.where(known, scores, 0.0)
    total, count = np.zeros((len(names), scores.shape[1])), np.zeros((len(names), scores.shape[1]))
    np.add.at(total, index, filled)
    np.add.at(count, index, known.astype(float))
    return Sums(total, count, (filled**2).sum(0))


def pool(nights: Sequence[Sums]) -> Sums:
    """Several nights as one.

    Parameters
    ----------
    nights : sequence of Sums
        At least one.

    Returns
    -------
    Sums
        Their files, one after the other.
    """
    return Sums(
        np.concatenate([night.total for night in nights]),
        np.concatenate([night.count for night in nights]),
        np.sum([night.square for night in nights], axis=0),
    )


class Reference:
    """What undisturbed nights look like.

    Parameters
    ----------
    nights : sequence of Sums
        Three or more.
    shares : ndarray of bool, shape (statistics,), optional
        Statistics whose scores are 0 or 1; none where not given.
    """

    def __init__(self, nights: Sequence[Sums], shares: np.ndarray | None = None) -> None:
        self.nights = list(nights)
        self.shares = np.zeros(nights[0].total.shape[1], bool) if shares is None else shares
        self.all = pool(nights)
        count = self.all.count.sum(0)
        scatter = _ratio(self.all.square, count) - self.all.mean() ** 2
        self.object_variance = np.maximum(np.nan_to_num(scatter), _ratio(0.5, count))
        self.file_variance = self._files()
        share = _share(self.all)
        self.slope = 0.5 / np.sqrt(share * (1 - share))
        means = np.array([self._link(night) for night in nights])
        variances = np.array([self._chance(night) for night in nights])
        self.tau2, self.degrees = _between(means, variances)
        weights = np.where(np.isfinite(means), 1 / (self.tau2 + variances), 0.0)
        self.middle = _ratio(np.nansum(weights * means, axis=0), weights.sum(0))
        self.mean = np.where(self.shares, np.sin(self.middle) ** 2, self.middle)
        self.mean_variance = _ratio(1.0, weights.sum(0))
        self.hits = np.mean([(night.total > 0).any(0) for night in nights], axis=0)
        self.misses = np.mean([(night.count > night.total).any(0) for night in nights], axis=0)

    def compare(self, nights: Sequence[Sums]) -> Comparison:
        """Hold nights against the reference.

        Parameters
        ----------
        nights : sequence of Sums
            One night, or several that are taken together.

        Returns
        -------
        Comparison
            Each statistic for itself.
        """
        one = pool(nights)
        counts = np.array([night.count.sum(0) for night in nights])
        shares = _ratio(counts, counts.sum(0))
        variance = self.tau2 * np.nansum(shares**2, axis=0) + self._chance(one)
        with np.errstate(invalid="ignore", divide="ignore"):
            z = (self._link(one) - self.middle) / np.sqrt(variance + self.mean_variance)
        z = np.where(self.degrees >= 2, z, np.nan)
        p = np.where(np.isfinite(z), 2 * t.sf(np.abs(np.nan_to_num(z)), np.maximum(self.degrees, 1)), 1.0)
        for column in np.flatnonzero(self.shares & np.isfinite(z)):
            if self.hits[column] < STEADY:
                p[column] = max(p[column], self._rare(one.total[:, column] > 0, self.all.total[:, column] > 0))
            if self.misses[column] < STEADY:
                here, there = one.count - one.total, self.all.count - self.all.total
                p[column] = max(p[column], self._rare(here[:, column] > 0, there[:, column] > 0))
        return Comparison(one.mean(), self.mean, z, np.minimum(p, 1.0))

    def _rare(self, here: np.ndarray, there: np.ndarray) -> float:
        """Chance of that many files with a case, by the beta-binomial distribution with Jeffreys' prior."""
        before, files = int(there.sum()), len(there)
        law = betabinom(len(here), before + 0.5, files - before + 0.5)
        return float(2 * min(law.cdf(here.sum()), law.sf(here.sum() - 1)))

    def _files(self) -> np.ndarray:
        """Variance of the mean of one file, from how files scatter inside their nights; NaN where no night tells."""
        found = []
        for night in self.nights:
            files = (night.count > 0).sum(0)
            off = ((night.total - np.nan_to_num(night.mean()) * night.count) ** 2).sum(0)
            variance = _ratio(off, night.count.sum(0) ** 2) * _ratio(files, files - 1)
            found.append(np.where(files > 1, variance * _effective(night), np.nan))
        values = np.array(found)
        known = np.isfinite(values)
        return _ratio(np.where(known, values, 0.0).sum(0), known.sum(0))

    def _chance(self, night: Sums) -> np.ndarray:
        """Variance of a night's mean by chance: never less than that of as many independent objects."""
        by_object = _ratio(self.object_variance, night.count.sum(0))
        by_file = _ratio(self.file_variance, _effective(night))
        return np.fmax(by_object, by_file) * np.where(self.shares, self.slope, 1.0) ** 2

    def _link(self, night: Sums) -> np.ndarray:
        """Mean scores; of shares the arc sine of the root, whose scatter does not depend on the share."""
        return np.where(self.shares, np.arcsin(np.sqrt(_share(night))), night.mean())

    def deal(self, nights: Sequence[Sums], columns: np.ndarray, level: float, seed: int) -> np.ndarray:
        """Deal files anew: how often does the largest statistic of all reach those that were seen?

        Parameters
        ----------
        nights : sequence of Sums
            One night, or several.
        columns : ndarray of int
            Statistics that are asked for.
        level : float
            Chance that matters; the deals end early where none of them can come below it.
        seed : int
            Of the deals.

        Returns
        -------
        ndarray, shape (columns,)
            Chance, corrected for all statistics; 0 where files are too few in every night to be dealt.
        """
        files = float(np.median([len(night.total) for night in self.nights]))
        if files < FILES:
            return np.zeros(len(columns))
        size = max(1, math.ceil(files / BLOCKS))
        rng = np.random.default_rng(seed)
        here = [block for night in nights for block in _blocks(night, size, rng)]
        there = [block for night in self.nights for block in _blocks(night, size, rng)]
        total = np.array([block[0] for block in [*here, *there]])
        count = np.array([block[1] for block in [*here, *there]])
        return _largest(total, count, len(here), columns, level, rng)


def _largest(
    total: np.ndarray, count: np.ndarray, size: int, columns: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    rounds = math.ceil(2 / level)
    total, count = total - np.nan_to_num(_ratio(total.sum(0), count.sum(0))) * count, count.astype(float)

    def differences(picked: np.ndarray) -> np.ndarray:
        inside, inside_n = picked @ total, picked @ count
        rest, rest_n = total.sum(0) - inside, count.sum(0) - inside_n
        return np.abs(np.nan_to_num(_ratio(inside, inside_n)) - np.nan_to_num(_ratio(rest, rest_n)))

    own = np.zeros((1, len(total)))
    own[0, :size] = 1
    seen = differences(own)[0]
    above, done, scale = np.zeros(len(columns)), 0, None
    while done < rounds:
        number = min(CHUNK, rounds - done)
        order = np.argpartition(rng.random((number, len(total)), dtype=np.float32), size - 1, axis=1)[:, :size]
        picked = np.zeros((number, len(total)))
        np.put_along_axis(picked, order, 1.0, axis=1)
        dealt = differences(picked)
        if scale is None:
            scale = np.sqrt((dealt**2).mean(0))
        largest = np.max(_ratio(dealt, scale, 0.0), axis=1)
        above += (largest[:, None] >= _ratio(seen, scale, 0.0)[columns] * (1 - 1e-9)).sum(0)
        done += number
        if (above + 1 > level * (rounds + 1)).all():
            break
    return (above + 1) / (done + 1)


def _blocks(night: Sums, size: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    order = rng.permutation(len(night.total))
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    return [(night.total[part].sum(0), night.count[part].sum(0)) for part in parts]


def _share(night: Sums) -> np.ndarray:
    """Share of cases, half a case and half a counter-case added; NaN where there is no object."""
    total, count = night.total.sum(0), night.count.sum(0)
    return np.where(count > 0, (np.clip(total, 0, count) + 0.5) / (count + 1), np.nan)


def _effective(night: Sums) -> np.ndarray:
    """Number of equal files that scatter as much (Kish)."""
    return _ratio(night.count.sum(0) ** 2, (night.count**2).sum(0))


def _between(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance between nights beyond chance, by the moments of DerSimonian and Laird, and its degrees of freedom."""
    known = np.isfinite(means)
    degrees = known.sum(0) - 1
    weights = np.where(known, 1 / variances, 0.0)
    middle = _ratio(np.nansum(weights * means, axis=0), weights.sum(0))
    off = np.nansum(weights * (means - middle) ** 2, axis=0)
    spread = weights.sum(0) - _ratio((weights**2).sum(0), weights.sum(0))
    ratio, total = _moderate(_ratio(off, degrees, 0.0), degrees)
    return np.nan_to_num(np.maximum(_ratio((ratio - 1) * degrees, spread), 0.0)), total


def _moderate(ratio: np.ndarray, degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw variance ratios towards what is usual for all statistics; those that stand out keep their own."""
    usable = (ratio > 0) & (degrees >= 2)
    if usable.sum() < FEWEST:
        return ratio, degrees
    half = degrees[usable] / 2
    logs = np.log(ratio[usable]) - digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - polygamma(1, half).mean())
    most = BORROWED * float(np.median(degrees[usable]))
    prior = min(2 * _inverse_trigamma(excess), most) if excess > 0 else most
    usual = math.exp(float(logs.mean()) + float(digamma(prior / 2)) - math.log(prior / 2))
    common = (degrees >= 2) & (f.sf(ratio / usual, np.maximum(degrees, 1), prior) > OUTSTANDING)
    drawn = (prior * usual + degrees * ratio) / (prior + degrees)
    return np.where(common, drawn, ratio), np.where(common, degrees + prior, degrees)


def _inverse_trigamma(value: float) -> float:
    low, high = 1e-3, 1e6
    if not polygamma(1, high) < value < polygamma(1, low):
        return high if value <= polygamma(1, high) else low
    return float(brentq(lambda x: polygamma(1, x) - value, low, high))


def _ratio(above: np.ndarray | float, below: np.ndarray | float, nothing: float = np.nan) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(below) > 0, np.divide(above, below), nothing)
