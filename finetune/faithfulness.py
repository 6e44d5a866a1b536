"""Whether an explanation is true: what happens to the answer when the inputs that it names are taken away.

Deletion and insertion curves after Petsiuk, Das & Saenko (2018, arXiv:1806.07421); the check against a model with
shuffled weights after Adebayo et al. (2018, arXiv:1810.03292).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from finetune.attribution import Function, answers_at
from finetune.evaluate import interval

#: Shares of the inputs that are taken away; as many near all of them as near none: one set serves both curves.
FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1.0)
ORDERS = ("most", "least", "random", "strongest")
RANDOM_ORDERS = 3
_DRAWS = 1000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Groups:
    """The explained inputs of one object as one list.

    Parameters
    ----------
    inputs : mapping of str to Tensor
        All inputs, first axis 1.
    neutral : mapping of str to Tensor
        Those that are explained, where nothing is seen.
    index : mapping of str to ndarray of int
        Of those, shape of the array: number in the list; -1 where nothing is to be taken away.
    count : int
        Length of the list.
    """

    inputs: Mapping[str, torch.Tensor]
    neutral: Mapping[str, torch.Tensor]
    index: Mapping[str, np.ndarray]
    count: int

    def without(self, gone: np.ndarray) -> dict[str, torch.Tensor]:
        """Inputs with some groups taken away.

        Parameters
        ----------
        gone : ndarray of bool, shape (n, count)
            What to take away, n times.

        Returns
        -------
        dict of str to Tensor
            First axis n.
        """
        out = {name: value.expand(len(gone), *value.shape[1:]) for name, value in self.inputs.items()}
        padded = np.concatenate([gone, np.zeros((len(gone), 1), bool)], axis=1)  # -1 is the last one: never gone
        for name, base in self.neutral.items():
            mask = torch.from_numpy(padded[:, self.index[name]]).to(base.device)
            out[name] = torch.where(mask, base, self.inputs[name].float())
        return out

    def strength(self) -> np.ndarray:
        """How far each group is from where nothing is seen, whatever the model makes of it.

        Returns
        -------
        ndarray, shape (count,)
            Sum of absolute differences; each array in units of its own mean.
        """
        total = np.zeros(self.count)
        for name, base in self.neutral.items():
            apart = (self.inputs[name].float() - base).abs()[0].cpu().numpy()
            there = self.index[name] >= 0
            mean = apart[there].mean() if there.any() else 0.0
            if mean > 0:
                np.add.at(total, self.index[name][there], apart[there] / mean)
        return total


def deletion(
    function: Function, groups: Groups, attribution: np.ndarray, target: int, ends: tuple[float, float], chunk: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:  # fmt: skip
    """How the answer goes over into that of the neutral input, for several orders of taking away.

    Parameters
    ----------
    function : callable
        The model.
    groups : Groups
        Of the object.
    attribution : ndarray, shape (count,)
        Of the groups, in the direction from the neutral answer to the answer; the largest are "most" important.
    target : int
        Which answer.
    ends : (float, float)
        Answer of the whole and of the neutral input.
    chunk : int
        Inputs that run at a time.
    rng : Generator
        Of the random orders.

    Returns
    -------
    dict of str to ndarray, shape (len(FRACTIONS),)
        By order: what is left of the difference, in the units of the answer; positive at the start.
    """
    ranks = {"most": _ranks(-attribution), "least": _ranks(attribution), "strongest": _ranks(-groups.strength())}
    ranks |= {f"random{i}": rng.permutation(groups.count) for i in range(RANDOM_ORDERS)}
    inner = np.array(FRACTIONS[1:-1])
    gone = np.concatenate([rank[None] < np.round(inner * groups.count)[:, None] for rank in ranks.values()])
    found = [
        answers_at(function, groups.without(gone[i : i + chunk]), chunk)[:, target] for i in range(0, len(gone), chunk)
    ]
    whole, nothing = ends
    sign = 1.0 if whole >= nothing else -1.0
    left = sign * (np.concatenate(found).reshape(len(ranks), inner.size) - nothing)
    full = np.concatenate(
        [np.full((len(ranks), 1), abs(whole - nothing)), left, np.zeros((len(ranks), 1))], axis=1
    )  # fmt: skip
    curves = dict(zip(ranks, full, strict=True))
    curves["random"] = np.mean([curves.pop(f"random{i}") for i in range(RANDOM_ORDERS)], axis=0)
    return curves


def _ranks(values: np.ndarray) -> np.ndarray:
    rank = np.empty(values.size, int)
    rank[np.argsort(values, kind="stable")] = np.arange(values.size)
    return rank


def judge_curves(curves: Sequence[Mapping[str, np.ndarray]], seed: int = 0) -> dict[str, Any]:
    """Curves of all objects together, and whether the order of the explanation is better than chance.

    Parameters
    ----------
    curves : sequence of mapping
        From ``deletion``, one for each object.
    seed : int
        Of the bootstrap over objects.

    Returns
    -------
    dict
        JSON-able: ``fractions``; ``curves`` by order, means over the objects, in the units of the answer (where its
        difference is small, a share of it would mean nothing); ``deletion_gain`` (area
        between the random order and most important first), ``insertion_gain`` (the same where the most important
        come first into the neutral input) and ``strongest_gain`` (deletion by the strength of the input alone), each
        with a 95 % interval; ``better_than_random``.
    """
    stacked = {order: np.array([one[order] for one in curves]) for order in ORDERS}
    rng, n = np.random.default_rng(seed), len(curves)
    draws = [rng.integers(0, n, n) for _ in range(_DRAWS)] if n > 1 else []
    gains = {
        name: interval(_gain(stacked, np.arange(n), *pair), [_gain(stacked, draw, *pair) for draw in draws])
        for name, pair in (
            ("deletion_gain", ("random", "most")),
            ("insertion_gain", ("least", "random")),
            ("strongest_gain", ("random", "strongest")),
        )
    }
    sure = [low is not None and low > 0 for _, low, _ in (gains["deletion_gain"], gains["insertion_gain"])]
    return {
        "fractions": list(FRACTIONS),
        "curves": {order: values.mean(0).tolist() for order, values in stacked.items()},
        **gains,
        "better_than_random": all(sure),
    }


def _gain(stacked: Mapping[str, np.ndarray], index: np.ndarray, above: str, below: str) -> float:
    apart = stacked[above][index].mean(0) - stacked[below][index].mean(0)
    return float(np.trapezoid(apart, FRACTIONS))


def similarity(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Rank correlation of two maps.

    Parameters
    ----------
    one, other : ndarray, shape (count,)
        Attributions.

    Returns
    -------
    signed, absolute : float, float
        Spearman's coefficient with and without the signs; NaN where a map is constant.
    """
    if min(np.ptp(one), np.ptp(other)) == 0:
        return float("nan"), float("nan")
    pairs = ((one, other), (np.abs(one), np.abs(other)))
    signed, absolute = (float(spearmanr(a, b).statistic) if min(np.ptp(a), np.ptp(b)) else np.nan for a, b in pairs)
    return signed, absolute


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Mean over objects with its 95 % bootstrap interval.

    Parameters
    ----------
    values : sequence of float
        One for each object; what is not finite does not count.
    seed : int
        Of the bootstrap.

    Returns
    -------
    (float or None, float or None, float or None)
        Mean, low, high.
    """
    good = np.array([v for v in values if np.isfinite(v)])
    if not good.size:
        return None, None, None
    rng = np.random.default_rng(seed)
    draws = good[rng.integers(0, good.size, (_DRAWS, good.size))].mean(1) if good.size > 1 else np.empty(0)
    return interval(float(good.mean()), draws.tolist())
