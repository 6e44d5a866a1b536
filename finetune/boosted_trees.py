"""Gradient-boosted trees on the measured numbers: the bar of the light-curve tasks, stored as text, never pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.task import Example, Prepared, Row
from finetune.tree_ensemble import TreeEnsemble

FEWEST = 5  #: Visits below which no answer is given.


class BoostedTrees:
    """LightGBM (Ke et al. 2017) with balanced classes, 15 leaves, rate 0.05: the design's bar, not tuned.

    Parameters
    ----------
    classes : sequence of str
        In the order of the probabilities.
    label : str
        Name of the label, and of the column after ``baseline_``.
    trees : int
        Rounds of boosting.
    """

    def __init__(self, classes: Sequence[str], label: str, trees: int = 150) -> None:
        self.classes, self.label, self.trees = tuple(classes), label, trees
        self.ensemble: TreeEnsemble | None = None

    def fit(self, examples: Sequence[Example], prepared: Sequence[Prepared], *, seed: int) -> None:
        """Learn from labelled objects.

        Parameters
        ----------
        examples : sequence of Example
            Training objects; those without a known class are left out.
        prepared : sequence of Prepared
            With ``numbers`` and ``known``.
        seed : int
            Of the trees.
        """
        import lightgbm

        kept = [i for i, e in enumerate(examples) if e.labels.get(self.label) in self.classes]
        target = np.array([self.classes.index(examples[i].labels[self.label]) for i in kept])
        count = np.bincount(target, minlength=len(self.classes))
        weight = (target.size / np.maximum(count, 1) / np.sum(count > 0))[target]
        data = lightgbm.Dataset(table([prepared[i] for i in kept]), target, weight=weight, free_raw_data=True)
        parameters = {
            "objective": "multiclass", "num_class": len(self.classes), "num_leaves": 15, "learning_rate": 0.05,
            "min_data_in_leaf": min(20, max(1, target.size // 20)), "verbosity": -1, "num_threads": 1, "seed": seed,
            "deterministic": True, "force_row_wise": True,
        }  # fmt: skip
        booster = lightgbm.train(parameters, data, num_boost_round=self.trees)
        self.ensemble = TreeEnsemble.from_text(booster.model_to_string())

    def predict(self, prepared: Sequence[Prepared]) -> list[Row]:
        """Answer for a batch.

        Parameters
        ----------
        prepared : sequence of Prepared
            Inputs.

        Returns
        -------
        list of dict
            ``baseline_<label>``, ``baseline_p_max`` and ``baseline_p_<class>``; None where there are too few visits.
        """
        probability = self.probabilities(prepared)
        rows = []
        for one, p in zip(prepared, probability, strict=True):
            if one["valid"].sum() < FEWEST or not np.isfinite(p).all():
                values: list[Any] = [None] * (len(self.classes) + 2)
            else:
                values = [self.classes[int(p.argmax())], float(p.max()), *map(float, p)]
            names = [self.label, "p_max", *(f"p_{name}" for name in self.classes)]
            rows.append({f"baseline_{name}": value for name, value in zip(names, values, strict=True)})
        return rows

    def probabilities(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """Class probabilities.

        Parameters
        ----------
        prepared : sequence of Prepared
            Inputs.

        Returns
        -------
        ndarray, shape (n, n_class)
            Not calibrated.

        Raises
        ------
        RuntimeError
            Where nothing has been learnt.
        """
        return self._fitted().probabilities(table(prepared))

    def _fitted(self) -> TreeEnsemble:
        if self.ensemble is None:
            raise RuntimeError("the boosted trees were neither fitted nor restored")
        return self.ensemble

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What has been learnt.

        Returns
        -------
        arrays, meta : dict, dict
            No arrays; the trees as LightGBM's own text.
        """
        return {}, {"classes": list(self.classes), "label": self.label, "trees": self._fitted().text}

    def restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Not used.
        meta : mapping
            From ``state``.

        Raises
        ------
        ValueError
            Where the classes are others.
        """
        if tuple(meta["classes"]) != self.classes:
            raise ValueError(f"stored trees know classes {meta['classes']}, the task has {list(self.classes)}")
        self.ensemble = TreeEnsemble.from_text(meta["trees"])


def table(prepared: Sequence[Prepared]) -> np.ndarray:
    """Numbers as the trees take them.

    Parameters
    ----------
    prepared : sequence of Prepared
        With ``numbers`` and ``known``.

    Returns
    -------
    ndarray, shape (n, n_number)
        NaN where missing; the trees know what to do with it.
    """
    return np.stack([np.where(p["known"] > 0.5, p["numbers"], np.nan) for p in prepared]).astype(np.float64)
