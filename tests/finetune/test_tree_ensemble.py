"""Trees evaluated from their text answer as LightGBM does, on any input, or refuse."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pytest

from finetune.tree_ensemble import TreeEnsemble


def grown(seed: int, missing: float, **options: Any) -> tuple[lightgbm.Booster, np.ndarray]:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(600, 7))
    target = (numbers[:, 0] > 0.3).astype(int) + (numbers[:, 1] + numbers[:, 2] > 0.5)
    numbers[rng.random(numbers.shape) < missing] = np.nan
    numbers[rng.random(numbers.shape) < 0.1] = 0.0
    given = {"objective": "multiclass", "num_class": 3, "num_leaves": 15, "verbosity": -1, "num_threads": 1, **options}
    return lightgbm.train(given, lightgbm.Dataset(numbers, target), num_boost_round=12), numbers


def fresh(numbers: np.ndarray) -> np.ndarray:
    """Values at, below and above every threshold, and holes."""
    rng = np.random.default_rng(9)
    out = numbers.copy()
    out[rng.random(out.shape) < 0.3] = np.nan
    return np.concatenate([out, numbers * 1e6, np.full((1, numbers.shape[1]), np.nan), np.zeros((1, numbers.shape[1]))])


@pytest.mark.parametrize("leaves", [2, 15, 16, 17, 31, 64])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_it_answers_as_lightgbm(leaves: int, missing: float) -> None:
    booster, numbers = grown(3, missing, num_leaves=leaves, min_data_in_leaf=3)
    ours = TreeEnsemble.from_text(booster.model_to_string())
    for given in (numbers, fresh(numbers)):
        np.testing.assert_allclose(ours.probabilities(given), booster.predict(given), rtol=0, atol=1e-14)


def test_a_row_does_not_know_its_mates() -> None:
    booster, numbers = grown(4, 0.1)
    ours = TreeEnsemble.from_text(booster.model_to_string())
    together = ours.probabilities(numbers[:9])
    for index in range(9):
        assert np.array_equal(ours.probabilities(numbers[index : index + 1])[0], together[index])


def test_trees_without_a_split() -> None:
    booster, numbers = grown(5, 0.0, min_data_in_leaf=400)
    ours = TreeEnsemble.from_text(booster.model_to_string())
    np.testing.assert_allclose(ours.probabilities(numbers), booster.predict(numbers), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"zero_as_missing": True}, "zeros for missing"),
        ({"num_leaves": 80, "min_data_in_leaf": 1}, "leaves"),
        ({"linear_tree": True}, "linear"),
        ({"objective": "regression", "num_class": 1}, "regression"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "boosted classifier"),
    ],
)
def test_other_trees_are_refused(options: dict[str, Any], says: str) -> None:
    booster, _ = grown(6, 0.1, **options)
    with pytest.raises(ValueError, match=says):
        TreeEnsemble.from_text(booster.model_to_string())


def test_numbers_of_another_shape_are_refused() -> None:
    booster, numbers = grown(7, 0.1)
    with pytest.raises(ValueError, match=r"\(600, 6\) are not \(n, 7\)"):
        TreeEnsemble.from_text(booster.model_to_string()).probabilities(numbers[:, :6])
