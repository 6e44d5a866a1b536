"""The bar of the morphology task: frozen image features with logistic regression, morphology numbers with boosted
trees, averaged. Neither changes the pretrained network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finetune.backbones import WIDTH, latest
from finetune.morphology_network import VIEWS, lower_features
from finetune.partial_labels import parse_label, responsibilities
from finetune.task import Example, Prepared, Row
from finetune.tree_ensemble import TreeEnsemble

COMPONENTS = 200  #: Principal components of the features that the regression sees.
STRENGTH = 0.003  #: C of the regression on components scaled to the first one's variance.
ROUNDS = 3  #: Fits of the expectation-maximisation over partial labels.
TREES: dict[str, Any] = {
    "objective": "multiclass", "learning_rate": 0.06, "num_leaves": 8, "min_data_in_leaf": 20, "bagging_fraction": 0.7,
    "bagging_freq": 1, "feature_fraction": 0.4, "lambda_l2": 1.0, "verbose": -1, "num_threads": 1,
    "deterministic": True, "force_row_wise": True,
}  # fmt: skip
BOOSTS = 100


def pooled_features(prepared: Sequence[Prepared], dihedrals: int) -> np.ndarray:
    """Features of the frozen network for each turned copy and view.

    Parameters
    ----------
    prepared : sequence of Prepared
        With ``views``, or with ``lower`` (copies, 2, 80, h, w) where the lower stages ran before.
    dihedrals : int
        Copies of a stamp.

    Returns
    -------
    ndarray of float32, shape (n, copies, 2, 1280)
        Features.
    """
    network = latest()
    if "lower" in prepared[0]:
        lower = torch.from_numpy(np.stack([p["lower"] for p in prepared])).float().flatten(0, 1)
    else:
        lower = lower_features(torch.from_numpy(np.stack([p["views"] for p in prepared])).to(network.device), dihedrals)
    pooled: np.ndarray = network.pooled(lower.to(network.device).flatten(0, 1)).cpu().numpy()
    return pooled.reshape(len(prepared), -1, VIEWS, WIDTH)


@dataclass(frozen=True, slots=True)
class _Components:
    """Principal components of standardised features."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, flat: np.ndarray) -> _Components:
        mean, scale = flat.mean(0), flat.std(0) + 1e-3
        scaled = (flat - mean) / scale
        if len(flat) < flat.shape[1]:  # the smaller of the two products
            values, left = np.linalg.eigh(scaled @ scaled.T)
            keep = np.argsort(values)[::-1][: min(COMPONENTS, len(flat) - 1)]
            axes = (left[:, keep] / np.sqrt(np.maximum(values[keep], 1e-9))).T @ scaled
        else:
            axes = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1][:, :COMPONENTS].T
        return cls(mean, scale, axes)

    def scores(self, flat: np.ndarray) -> np.ndarray:
        out: np.ndarray = ((flat - self.mean) / self.scale) @ self.axes.T
        return out


class MorphologyBaseline:
    """Logistic regression on frozen features and boosted trees on numbers, averaged.

    Parameters
    ----------
    classes : sequence of str
        In the order of the outputs.
    dihedrals : int
        Copies of a stamp whose features are averaged.
    """

    def __init__(self, classes: Sequence[str], dihedrals: int) -> None:
        self.classes, self.dihedrals = tuple(classes), dihedrals
        self.weight = np.zeros((len(classes), VIEWS * WIDTH), np.float32)
        self.bias = np.zeros(len(classes), np.float32)
        self.trees: TreeEnsemble | None = None
        self.features: np.ndarray | None = None  #: Of the training set, kept for the start of the fine-tuning.

    def fit(self, examples: Sequence[Example], prepared: Sequence[Prepared], *, seed: int) -> None:
        """Learn from labelled examples.

        Parameters
        ----------
        examples : sequence of Example
            Labels may name several classes.
        prepared : sequence of Prepared
            Their inputs.
        seed : int
            For all that is random.
        """
        likelihood = np.stack([parse_label(e.labels.get("morphology_class"), self.classes) for e in examples])
        step = 16
        parts = [pooled_features(prepared[i : i + step], self.dihedrals) for i in range(0, len(prepared), step)]
        self.features = np.concatenate(parts)
        self.fit_arrays(self.features.mean(axis=1), *numbers_of(prepared), likelihood, seed)

    def fit_arrays(
        self, features: np.ndarray, numbers: np.ndarray, known: np.ndarray, likelihood: np.ndarray, seed: int
    ) -> None:
        """Learn from arrays.

        Parameters
        ----------
        features : ndarray, shape (n, 2, 1280)
            Mean over the copies.
        numbers, known : ndarray, shape (n, numbers)
            Morphology numbers.
        likelihood : ndarray, shape (n, classes)
            Labels.
        seed : int
            For all that is random.
        """
        flat = features.reshape(len(features), -1).astype(np.float64)
        space = _Components.of(flat)
        scores = space.scores(flat)
        share = responsibilities(np.ones_like(likelihood), likelihood)
        exact = (likelihood > 0).sum(axis=1) == 1
        if exact.any() and len(set(share[exact].argmax(axis=1))) == len(self.classes):
            # Where every class has sure examples, they alone decide what the others are taken for at first.
            self._fit_regression(space, scores[exact], share[exact], seed)
            share = responsibilities(self._regression(flat), likelihood)
        for _ in range(ROUNDS - 1 if not exact.all() else 1):
            self._fit_regression(space, scores, share, seed)
            share = responsibilities(self._regression(flat), likelihood)
        self._fit_trees(np.where(known > 0, numbers, np.nan), share, seed)

    def _fit_regression(self, space: _Components, scores: np.ndarray, share: np.ndarray, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression

        rows, classes = np.nonzero(share > 0.02)
        model = LogisticRegression(C=STRENGTH, max_iter=300, random_state=seed)
        model.fit(scores[rows], classes, sample_weight=share[rows, classes])
        weight = np.zeros((len(self.classes), VIEWS * WIDTH))
        bias = np.full(len(self.classes), -20.0)  # a class that was never seen
        coefficients, intercept = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercept, intercept] / 2
        weight[model.classes_] = (coefficients @ space.axes) / space.scale
        bias[model.classes_] = intercept - weight[model.classes_] @ space.mean
        self.weight, self.bias = weight.astype(np.float32), bias.astype(np.float32)

    def _fit_trees(self, numbers: np.ndarray, share: np.ndarray, seed: int) -> None:
        import lightgbm

        rows, classes = np.nonzero(share > 0.02)
        data = lightgbm.Dataset(numbers[rows], classes, weight=share[rows, classes])
        options = {**TREES, "num_class": len(self.classes), "seed": seed}
        text = lightgbm.train(options, data, num_boost_round=BOOSTS).model_to_string()
        self.trees = TreeEnsemble.from_text(text.split("\nparameters:")[0] + "\n")

    def _regression(self, flat: np.ndarray) -> np.ndarray:
        score = flat @ self.weight.T.astype(np.float64) + self.bias
        score = np.exp(score - score.max(axis=1, keepdims=True))
        out: np.ndarray = score / score.sum(axis=1, keepdims=True)
        return out

    def probabilities(self, features: np.ndarray, numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Mean probability of the two parts.

        Parameters
        ----------
        features : ndarray, shape (n, 2, 1280)
            Mean over the copies.
        numbers, known : ndarray, shape (n, numbers)
            Morphology numbers.

        Returns
        -------
        ndarray, shape (n, classes)
            Rows sum to one.
        """
        image = self._regression(features.reshape(len(features), -1).astype(np.float64))
        if self.trees is None:
            return image
        return (image + self.trees.probabilities(np.where(known > 0, numbers, np.nan))) / 2

    def predict(self, prepared: Sequence[Prepared]) -> list[Row]:
        """Answer for a batch.

        Parameters
        ----------
        prepared : sequence of Prepared
            Inputs.

        Returns
        -------
        list of dict
            ``baseline_morphology_class``, ``baseline_p_max`` and ``baseline_p_<class>``; nulls where there is no data.
        """
        features = pooled_features(prepared, self.dihedrals).mean(axis=1)
        table = self.probabilities(features, *numbers_of(prepared))
        rows: list[Row] = []
        for values, one in zip(table, prepared, strict=True):
            there = bool(one["usable"] > 0)
            best = int(np.argmax(values))
            row: Row = {"baseline_morphology_class": self.classes[best] if there else None}
            row["baseline_p_max"] = float(values[best]) if there else None
            row |= {f"baseline_p_{c}": float(v) if there else None for c, v in zip(self.classes, values, strict=True)}
            rows.append(row)
        return rows

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What has been learnt.

        Returns
        -------
        arrays, meta : dict of str to ndarray, dict
            Regression in half precision, trees as their text dump.
        """
        trees = "" if self.trees is None else self.trees.text
        meta = {"classes": list(self.classes), "dihedrals": self.dihedrals, "trees": trees}
        return {"weight": self.weight.astype(np.float32), "bias": self.bias}, meta

    def restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            From ``state``.
        meta : mapping
            From ``state``.
        """
        self.classes, self.dihedrals = tuple(meta["classes"]), int(meta["dihedrals"])
        self.weight, self.bias = np.asarray(arrays["weight"]), np.asarray(arrays["bias"])
        self.trees = TreeEnsemble.from_text(meta["trees"]) if meta["trees"] else None


def numbers_of(prepared: Sequence[Prepared]) -> tuple[np.ndarray, np.ndarray]:
    """Stack the morphology numbers.

    Parameters
    ----------
    prepared : sequence of Prepared
        Inputs.

    Returns
    -------
    numbers, known : ndarray, shape (n, numbers)
        As ``prepare_stamp`` gave them.
    """
    return np.stack([p["numbers"] for p in prepared]), np.stack([p["known"] for p in prepared])
