from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.calibrate import ONE_SIGMA, fit_error_factors, fit_temperature, reliability, scale_errors, softmax


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


def test_errors_get_the_coverage_that_they_claim() -> None:
    rng = np.random.default_rng(1)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        noise = rng.choice([10.0, 100.0], n)
        true = np.where(noise < 50, 0.5, 3.0)  # half as large, three times as large as stated
        return rng.normal(0, true), np.ones(n), noise

    residual, error, noise = draw(4000)
    factors = fit_error_factors(residual, error, noise, bins=2)
    assert factors["n"] == 4000
    assert np.allclose(sorted(factors["factors"]), [0.5, 3.0], rtol=0.1)
    residual, error, noise = draw(4000)
    scaled = scale_errors(error, factors, noise)
    for level in (10.0, 100.0):
        inside = noise == level
        assert (np.abs(residual) < scaled)[inside].mean() == pytest.approx(ONE_SIGMA, abs=0.03)


def test_few_objects_share_one_bin_and_none_leave_the_errors_alone() -> None:
    factors = fit_error_factors(np.full(30, 2.0), np.ones(30), np.arange(30.0), bins=4)
    assert factors["edges"] == []
    assert scale_errors(np.ones(2), factors, np.array([np.nan, 3.0])).tolist() == [2.0, 2.0]
    nothing = fit_error_factors(np.array([np.nan, 1.0]), np.array([1.0, 0.0]))
    assert nothing["factors"] == [1.0]
    assert nothing["n"] == 0
    assert scale_errors(np.array([1.0]), {}).tolist() == [1.0]


def test_an_unknown_bin_gets_the_largest_factor() -> None:
    factors = {"edges": [1.0], "factors": [2.0, 5.0]}
    assert scale_errors(np.ones(3), factors, np.array([0.0, 2.0, np.nan])).tolist() == [2.0, 5.0, 5.0]
    assert scale_errors(np.ones(1), factors).tolist() == [5.0]


def test_reliability() -> None:
    p, said, true = np.array([0.95, 0.95, 0.55, 0.55]), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    report = reliability(p, said, true)
    assert [b["n"] for b in report["bins"]] == [2, 2]
    assert report["bins"][0]["accuracy"] == 0.5
    assert report["ece"] == pytest.approx(0.05)
    assert reliability(np.array([1.0]), np.array([0]), np.array([0]))["bins"][0]["high"] == 1.0
