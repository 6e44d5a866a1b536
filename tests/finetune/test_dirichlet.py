from __future__ import annotations

import numpy as np
import pytest

from finetune.calibrate import fit_temperature, softmax
from finetune.classification import decode_classes, fit_calibration
from finetune.dirichlet import choose_map, class_probabilities, fit_dirichlet


def temperature(logits: np.ndarray, likelihood: np.ndarray) -> float:
    return fit_temperature(logits, likelihood.argmax(axis=1))


def sky(n: int, seed: int, confused: bool, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Truth drawn from honest probabilities, and logits that are too sure; confused: a linear mixture of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, k))
    p = softmax(logits)
    truth = np.array([rng.choice(k, p=one) for one in p])
    mixing = np.eye(k)
    if confused:
        mixing[0, 1], mixing[2, 3], mixing[3, 3] = 0.9, -0.6, 0.4
    stated = 2.5 * np.log(p) @ mixing.T + (np.array([1.5, 0, -1, 0]) if confused else 0)
    return stated, np.eye(k)[truth]


def loss(p: np.ndarray, likelihood: np.ndarray) -> float:
    return float(-np.log((p * likelihood).sum(axis=1)).mean())


def test_it_undoes_a_confusion_that_a_temperature_cannot() -> None:
    logits, likelihood = sky(1500, 0, confused=True)
    found = choose_map(logits, likelihood, temperature)
    assert found["log_loss"]["dirichlet"] < found["log_loss"]["temperature"]
    fresh, truth = sky(3000, 1, confused=True)
    one = loss(class_probabilities(fresh, {"temperature": found["temperature"]}), truth)
    assert loss(class_probabilities(fresh, found), truth) < one - 0.05
    assert class_probabilities(fresh, found).sum(axis=1) == pytest.approx(1)


def test_where_the_model_is_only_too_sure_the_temperature_stays() -> None:
    found = choose_map(*sky(800, 2, confused=False), temperature)
    assert "dirichlet" not in found
    assert found["temperature"] == pytest.approx(2.5, rel=0.15)


def test_with_few_objects_of_a_class_it_is_not_tried() -> None:
    logits, likelihood = sky(60, 3, confused=True)
    assert set(choose_map(logits, likelihood, temperature)) == {"temperature"}
    ambiguous = np.maximum(np.ones((400, 4)) * 0.1, sky(400, 3, confused=True)[1])
    assert set(choose_map(sky(400, 3, confused=True)[0], ambiguous, temperature)) == {"temperature"}, "no exact label"


def test_the_gradient_is_that_of_the_loss() -> None:
    """A fit from far off ends where one from nearby does: the problem is convex."""
    logits, likelihood = sky(400, 4, confused=True)
    one, two = (fit_dirichlet(logits, likelihood, 0.1, start) for start in (0.5, 5.0))
    assert np.array(one["weights"]) == pytest.approx(np.array(two["weights"]), abs=0.02)
    strong = fit_dirichlet(logits, likelihood, 1e4)
    off = np.array(strong["weights"])[~np.eye(4, dtype=bool)]
    assert np.abs(off).max() < 0.02
    assert np.abs(strong["bias"]).max() < 0.02


def test_what_is_not_finite_stays_so() -> None:
    logits, likelihood = sky(400, 5, confused=True)
    found = {"dirichlet": fit_dirichlet(logits, likelihood, 0.1)}
    logits[0, 1] = np.nan
    assert np.isnan(class_probabilities(logits, found)[0]).all()
    assert class_probabilities(logits[1:2], {}) == pytest.approx(softmax(logits[1:2]))


def test_a_classifier_uses_what_was_chosen() -> None:
    logits, likelihood = sky(1500, 6, confused=True)
    outputs = {"logits": logits.astype(np.float32), "embedding": logits[:, :2].astype(np.float32)}
    calibration = fit_calibration(outputs, likelihood)
    assert "dirichlet" in calibration
    rows = decode_classes({k: v[:5] for k, v in outputs.items()}, [True] * 5, calibration, "abcd", "letter")
    wanted = class_probabilities(outputs["logits"][:5], calibration)
    assert [[row[f"p_{c}"] for c in "abcd"] for row in rows] == [pytest.approx(one.tolist()) for one in wanted]


def test_an_object_without_finite_scores_spoils_no_calibration() -> None:
    logits, likelihood = sky(400, 7, confused=False)
    outputs = {"logits": logits.astype(np.float32), "embedding": logits[:, :2].astype(np.float32)}
    whole = fit_calibration(outputs, likelihood)
    spoilt = {name: np.concatenate([value, np.full((3, value.shape[1]), np.nan)]) for name, value in outputs.items()}
    assert fit_calibration(spoilt, np.concatenate([likelihood, likelihood[:3]])) == whole
