from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune.curves import RATES, class_curves
from tests.finetune.toy_task import TASK
from transforms.columns import FLOAT32, Column

FULL = replace(
    TASK, columns=(*TASK.columns, Column("p_faint", FLOAT32, "", "stat.probability", "Probability of faint"))
)


def answers(score: np.ndarray) -> list[dict]:
    return [{"p_bright": None if np.isnan(s) else s, "p_faint": None if np.isnan(s) else 1 - s} for s in score]


def curves(truth: np.ndarray, score: np.ndarray, draws: int = 50) -> dict:
    labels = [{"class_name": "bright" if t else "faint"} for t in truth]
    return class_curves(FULL, answers(score), labels, [str(i) for i in range(truth.size)], "", draws=draws)


def test_figures_are_those_of_counting() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(300) < 0.3
    score = np.clip(rng.normal(0.4 + 0.25 * truth, 0.2), 0, 1).round(2)  # with ties
    found = curves(truth, score)["bright"]
    assert found["n"] == truth.sum()
    yes, no = score[truth][:, None], score[~truth][None]
    assert found["roc_auc"][0] == pytest.approx(((yes > no) + 0.5 * (yes == no)).mean())
    for rate in RATES:
        thresholds = [t for t in np.unique(score) if (score[~truth] >= t).mean() <= rate]
        counted = max(((score[truth] >= t).mean() for t in thresholds), default=0.0)
        assert found["recall_at"][f"{rate:g}"][0] == pytest.approx(counted)
    value, low, high = found["roc_auc"]
    assert 0.5 < low < value < high < 1
    false, recall = found["roc"]
    assert (false[0], recall[0], false[-1], recall[-1]) == (0, 0, 1, 1)


def test_perfect_and_reversed_answers() -> None:
    truth = np.arange(40) < 12
    for sign, area in ((1, 1.0), (-1, 0.0)):
        found = curves(truth, 0.5 + 0.4 * sign * np.where(truth, 1, -1))
        assert found["bright"]["roc_auc"][0] == found["faint"]["roc_auc"][0] == area
        assert found["bright"]["recall_at"]["0.01"][0] == area
    assert found["bright"]["n"] == 12


def test_an_object_without_an_answer_is_the_last_to_be_found() -> None:
    truth = np.arange(40) < 20
    score = np.where(truth, 0.9, 0.1)
    score[:5] = np.nan
    found = curves(truth, score)["bright"]
    assert found["recall_at"]["0.01"][0] == 0.75
    assert found["roc_auc"][0] == pytest.approx(0.75)


def test_nothing_is_claimed_where_nothing_can_be() -> None:
    assert curves(np.ones(10, bool), np.full(10, 0.7)) == {}
    labels, groups = [{"class_name": "bright"}, {"class_name": "faint"}], ["a", "b"]
    assert class_curves(FULL, answers(np.array([0.9, 0.1])), labels, groups, "baseline_") == {}
    assert class_curves(FULL, answers(np.array([0.9, 0.1])), [{}, {}], groups, "") == {}
