"""The queue for labels: unsure and novel objects first, and not all of a kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetune.label_queue import queue, uncertainty, uncertainty_columns
from finetune.tasks import get
from transforms.flags import bits

CLASSIFIER, REGRESSOR = get("variable_star"), get("stellar_parameters")


def classified(first: float | None, novelty: float | None = 0.5, flags: int = 0) -> dict[str, Any]:
    names = uncertainty_columns(CLASSIFIER)
    shares = [first, *[(1 - first) / (len(names) - 1)] * (len(names) - 1)] if first is not None else [None] * len(names)
    return {**dict(zip(names, shares, strict=True)), "novelty": novelty, "flags": flags}


def test_uncertainty_of_classes_is_one_minus_the_margin() -> None:
    row = dict.fromkeys(uncertainty_columns(CLASSIFIER), 0.0) | {
        "best_p_rrab": 0.6,
        "best_p_rrc": 0.3,
        "best_p_ea": 0.1,
    }
    assert uncertainty(CLASSIFIER, [row])[0] == pytest.approx(0.7)


def test_uncertainty_of_numbers_is_the_error_over_the_usual_one() -> None:
    names = uncertainty_columns(REGRESSOR)
    assert names
    assert all(name.startswith("best_") for name in names)
    rows = [dict.fromkeys(names, scale) for scale in (1.0, 1.0, 3.0)] + [dict.fromkeys(names)]
    found = uncertainty(REGRESSOR, rows)
    np.testing.assert_allclose(found[:3], [1, 1, 3])
    assert np.isnan(found[3])


def test_the_unsure_and_the_novel_come_first_with_the_reason() -> None:
    rows = [classified(0.99) for _ in range(40)]
    rows[7] = classified(0.2)
    rows[11] = classified(0.99, novelty=4.0)
    rows[13] = classified(0.99, flags=bits("DISAGREE"))
    found = queue(CLASSIFIER, rows, None, 3)
    assert [i for i, _ in found] == [7, 11, 13]
    assert found[0][1] == ["unsure"]
    assert found[1][1] == ["unlike the training objects"]
    assert "answers disagree" in found[2][1]


def test_with_embeddings_no_two_of_a_kind_stand_first() -> None:
    rows = [classified(0.2 + 0.001 * i) for i in range(20)] + [classified(0.5), classified(0.99)]
    points = np.r_[np.zeros((20, 2)), [[3.0, 0.0]], [[0.0, 3.0]]] + np.arange(22)[:, None] * 1e-6
    assert [i for i, _ in queue(CLASSIFIER, rows, points, 2)] == [0, 20]


def test_every_object_has_a_reason() -> None:
    rows = [classified(0.5 + 0.01 * i, novelty=0.5) for i in range(40)]
    reasons = dict(queue(CLASSIFIER, rows, None, 40))
    assert all(reasons.values())
    assert reasons[30] == ["unsure"]


def test_objects_without_an_answer_are_not_offered() -> None:
    assert queue(CLASSIFIER, [classified(None, novelty=None)] * 3, None, 2) == []
    assert queue(CLASSIFIER, [], None, 2) == []
