from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune import tasks
from finetune.calibrate import softmax
from finetune.class_sets import KEY, Sets, class_set, fit_floors, set_columns, set_prefixes, set_report
from finetune.coverage import share_interval
from finetune.judge import answers, judge
from finetune.train import train_task
from finetune.training_options import make_options
from tests.finetune.toy_task import TASK as TOY
from transforms.columns import FLOAT32, Column

CLASSES = ("a", "b", "c")
VARIABLE = tasks.get("variable_star")


def sky(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is poor at class c, with the truth; one object in ten is a c."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=[0.5, 0.4, 0.1])
    logits = rng.normal(0, 1, (n, 3))
    logits[np.arange(n), truth] += np.array([2.5, 2.0, 0.3])[truth]
    return softmax(logits), truth


def row(p: np.ndarray) -> dict[str, float]:
    return {f"p_{name}": float(value) for name, value in zip(CLASSES, p, strict=True)}


def test_every_class_is_covered_even_the_one_that_the_model_is_poor_at() -> None:
    fitted = fit_floors(*sky(2000, 0), CLASSES)
    p, truth = sky(6000, 1)
    sets = [class_set(row(one), "", fitted).split("|") for one in p]
    for number, name in enumerate(CLASSES):
        own = [name in held for held, t in zip(sets, truth, strict=True) if t == number]
        low, high = share_interval(own, [str(i) for i in range(len(own))], 0.999)[1:]
        assert low < 0.92
        assert high > 0.9, name
    assert fitted["floors"]["c"] < fitted["floors"]["a"]
    assert sum(len(s) for s in sets) / len(sets) < 2.5


def test_coverage_holds_on_average_over_small_validation_sets() -> None:
    hits = []
    for seed in range(200):
        p, truth = sky(60, seed)
        fitted = fit_floors(p[:40], truth[:40], CLASSES)
        own = truth[:40]
        if min(np.bincount(own, minlength=3)[:2]) < 9:
            continue
        hits += [
            CLASSES[t] in class_set(row(one), "", fitted).split("|")
            for one, t in zip(p[40:], truth[40:], strict=True)
            if t < 2
        ]
    assert np.mean(hits) >= 0.885


def test_an_empty_set_is_empty_text_and_no_set_is_none() -> None:
    fitted = {"level": 0.9, "floors": {"a": 0.6, "b": 0.6, "c": 0.6}}
    assert class_set(row(np.array([0.4, 0.3, 0.3])), "", fitted) == ""
    assert class_set(row(np.array([0.7, 0.2, 0.1])), "", fitted) == "a"
    wide = {"floors": {"c": 0.1, "b": 0.1, "a": 0.1}}
    assert class_set(row(np.array([0.7, 0.2, 0.1])), "", wide) == "a|b|c", "sorted, as a label that allows several"
    assert class_set(row(np.array([0.7, 0.2, 0.1])), "", {}) is None
    assert class_set({"p_a": None, "p_b": None, "p_c": None}, "", fitted) is None


def test_a_class_with_few_objects_takes_the_floor_of_all() -> None:
    p, truth = sky(300, 3)
    few = np.r_[np.flatnonzero(truth == 2)[:8], np.flatnonzero(truth != 2)]
    fitted = fit_floors(p[few], truth[few], CLASSES)
    own = np.sort(p[few, truth[few]])
    assert fitted["n"]["c"] == 8
    assert fitted["floors"]["c"] == own[int((own.size + 1) * 0.1 + 1e-9) - 1]
    assert fit_floors(p[:19], truth[:19], CLASSES) == {}
    assert fit_floors(np.full((30, 3), np.nan), np.zeros(30, int), CLASSES) == {}
    assert fit_floors(p[:30], np.full(30, -1), CLASSES) == {}


def test_nine_objects_of_a_class_are_enough_for_a_floor_of_its_own() -> None:
    p, truth = sky(2000, 4)
    for count in (8, 9):
        few = np.r_[np.flatnonzero(truth == 2)[:count], np.flatnonzero(truth != 2)]
        floor = fit_floors(p[few], truth[few], CLASSES)["floors"]["c"]
        assert (floor == p[few[:count], 2].min()) == (count == 9), "with eight no floor leaves out a tenth at most"


def test_only_classifiers_with_all_probabilities_have_columns() -> None:
    assert [c.name for c in set_columns(VARIABLE)] == ["class_set", "best_class_set"]
    assert set_prefixes(tasks.get("stellar_parameters")) == ()
    assert set_prefixes(TOY) == (), "it gives the probability of one class alone"
    names = [c.name for c in VARIABLE.all_columns()]
    assert len(names) == len(set(names))
    assert "class_set" in names


def test_without_floors_the_columns_are_null() -> None:
    class Inner:
        columns = ()

        def predict(self, batch, size):
            return [{f"{prefix}p_{name}": 0.1 for prefix in ("", "best_") for name in VARIABLE.classes}]

    (found,) = Sets(Inner(), VARIABLE, {}).predict([{}], 1)
    assert (found["class_set"], found["best_class_set"]) == (None, None)


def test_a_report_tells_coverage_and_size() -> None:
    rows = [{"best_class_set": text} for text in ("rrab", "rrab|rrc", "", "rrc", None)]
    labels = [{"variable_class": name} for name in ("rrab", "rrc", "rrab", "rrab", "rrab")]
    found = set_report(VARIABLE, rows, labels, ["1", "2", "3", "3", "4"], "best_")
    assert found["classes"]["all"]["n"] == 4
    assert found["classes"]["rrab"]["coverage"][0] == pytest.approx(1 / 3)
    assert found["classes"]["rrc"]["mean_size"] == 2
    assert found["classes"]["all"]["empty"] == 0.25
    assert set_report(VARIABLE, rows, labels, ["1"] * 5, "baseline_") == {}


def both(base):
    """The toy task with a probability of each class."""

    def decode(outputs, prepared, calibration):
        rows = base.decode(outputs, prepared, calibration)
        return [{**one, "p_faint": None if one["class_name"] is None else 1 - one["p_bright"]} for one in rows]

    more = Column("p_faint", FLOAT32, "", "stat.probability", "Probability of faint")
    return replace(base, columns=(*base.columns, more), decode=decode)


def test_a_training_fits_the_sets_and_an_evaluation_judges_them() -> None:
    task = both(TOY)
    examples = task.simulate(1000, 0)
    trained = train_task(task, examples[:60], examples[60:460], make_options(task, {"steps": 30}))
    assert trained.calibration[KEY][""]["n"] == {"faint": 200, "bright": 200}
    kept, rows = answers(task, trained.predictor(), examples[460:])
    assert set(filter(None, (row["class_set"] for row in rows))) <= {"bright", "bright|faint", "faint"}
    found = judge(task, rows, kept, 20)["class_sets"]
    assert set(found) == {"learned"}
    for part in found["learned"]["classes"].values():
        assert 0.84 < part["coverage"][0] < 0.96, "0.9, with what chance makes of 200 objects and of 270"
    again = train_task(task, examples[:60], examples[60:70], make_options(task, {"steps": 5}))
    assert KEY not in again.calibration, "ten objects are too few"
