from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.calibrate import fit_temperature, reliability, softmax


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    target = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    assert fit_temperature(logits * 2.5, target) == pytest.approx(2.5, rel=0.08)
    assert fit_temperature(logits, target) == pytest.approx(1.0, rel=0.08)


def test_temperature_without_truth_is_one() -> None:
    assert fit_temperature(np.zeros((3, 2)), np.full(3, -100)) == 1.0
    assert fit_temperature(np.full((3, 2), np.nan), np.zeros(3, int)) == 1.0


@given(st.lists(st.floats(-700, 700), min_size=2, max_size=5), st.floats(0.05, 20))
def test_softmax_is_a_distribution_and_keeps_the_order(logits: list[float], temperature: float) -> None:
    p = softmax(np.array([logits]), temperature)[0]
    assert p.sum() == pytest.approx(1)
    assert p[int(np.argmax(logits))] == p.max()


def test_reliability() -> None:
    p, said, true = np.array([0.95, 0.95, 0.55, 0.55]), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    report = reliability(p, said, true)
    assert [b["n"] for b in report["bins"]] == [2, 2]
    assert report["bins"][0]["accuracy"] == 0.5
    assert report["ece"] == pytest.approx(0.05)
    assert reliability(np.array([1.0]), np.array([0]), np.array([0]))["bins"][0]["high"] == 1.0
