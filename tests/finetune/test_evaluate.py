from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finetune.evaluate import against, bootstrap, evaluate, interval, resample
from finetune.judge import judge
from finetune.reports import class_report, error_report, reliability_report
from finetune.task import Example, Row, Task
from tests.finetune.toy_task import TASK, example
from transforms.columns import FLOAT32, Column
from transforms.flags import bits


def row(learned: str | None, classical: str, best: str, flags: int = 0) -> Row:
    return {
        "class_name": learned, "p_bright": 0.5, "baseline_class_name": classical, "baseline_score": 0.0,
        "best_class_name": best, "best_method": "learned", "flags": flags,
    }  # fmt: skip


def sample(n: int) -> tuple[list[Row], list[Example]]:
    """The learned answer is right in 9 of 10, the classical in 7 of 10, the best in all; two objects a group."""
    rng, rows, examples = np.random.default_rng(0), [], []
    for i in range(n):
        truth, other = ("faint", "bright") if i % 2 else ("bright", "faint")
        rows.append(row(truth if i % 10 else other, truth if i % 10 > 2 else other, truth))
        examples.append(replace(example(f"s{i}", truth, rng), group=f"g{i // 2}", origin="AB"[i % 3 == 0]))
    return rows, examples


def numbers() -> Task:
    """The toy, as if it were a regression of the temperature."""
    columns = (Column("teff", FLOAT32, "K", "x", "T"), Column("teff_err", FLOAT32, "K", "x", "Its error"))
    return replace(TASK, columns=columns, label_columns=("teff",), classes=())


def test_the_three_answers_stand_side_by_side_with_intervals() -> None:
    rows, examples = sample(200)
    report = evaluate(TASK, rows, examples, draws=300)
    assert (report["n"], report["groups"]) == (200, 100)
    value, low, high = report["metrics"]["learned"]["accuracy"]
    assert value == pytest.approx(0.9)
    assert low < 0.9 < high
    assert 0.06 < high - low < 0.14, "the width of 200 draws of 0.9, in pairs"
    assert report["metrics"]["best"]["accuracy"] == (1.0, 1.0, 1.0)
    value, low, high = report["differences"]["learned - baseline"]["accuracy"]
    assert value == pytest.approx(0.2)
    assert 0 < low < 0.2 < high
    json.dumps(report, allow_nan=False)


def test_flags_nulls_and_origins_are_counted() -> None:
    rows, examples = sample(20)
    rows[0] = row(None, "faint", "faint", bits("MODEL_FAILED", "EDGE"))
    report = evaluate(TASK, rows, examples, draws=10)
    assert report["flags"] == {"EDGE": 1, "MODEL_FAILED": 1}
    assert report["unanswered"] == {"class_name": 1}
    assert {name: part["n"] for name, part in report["origins"].items()} == {"A": 13, "B": 7}
    same = [replace(e, origin="A") for e in examples]
    assert evaluate(TASK, rows, same, draws=10)["origins"] == {}


def test_groups_are_drawn_whole() -> None:
    groups = ["a", "b", "b", "c"]
    for index in resample(groups, 0, 50):
        assert index.count(1) == index.count(2)
    assert resample(groups, 0, 5) == resample(groups, 0, 5) != resample(groups, 1, 5)


def test_a_larger_group_gives_a_wider_interval() -> None:
    rows, examples = sample(200)
    labels = [e.labels for e in examples]

    def width(groups: list[str]) -> float:
        figures, _ = bootstrap(TASK, rows, labels, groups, draws=300)
        _, low, high = figures["learned"]["accuracy"]
        assert low is not None
        assert high is not None
        return high - low

    assert width([str(i % 10 == 0) + str(i // 20) for i in range(200)]) > width([str(i) for i in range(200)])


def test_class_report_counts_no_answer_too() -> None:
    rng = np.random.default_rng(0)
    truth = ["bright", "bright", "faint", "faint", "unknown"]
    labels = [example("x", "bright", rng).labels | {"class_name": name} for name in truth]
    rows = [row(name, "faint", "faint") for name in ("bright", None, "bright", "faint", "faint")]
    report = class_report(TASK, rows, labels, "")
    assert report["classes"] == ["faint", "bright", ""]
    assert report["confusion"] == [[1, 1, 0], [0, 1, 1]]
    assert report["report"]["bright"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert class_report(TASK, rows, labels, "other_") == {}


def test_reliability_needs_the_probability_of_every_class() -> None:
    rows, examples = sample(4)
    labels = [e.labels for e in examples]
    assert reliability_report(TASK, rows, labels, "") == {}
    both = replace(TASK, columns=(*TASK.columns, Column("p_faint", FLOAT32, "", "x", "P")))
    rows = [{**r, "p_bright": 0.8, "p_faint": 0.2} for r in rows]
    report = reliability_report(both, rows, labels, "")
    assert report["bins"][0]["n"] == 4
    assert report["ece"] == pytest.approx(0.3), "right in two of four, said 0.8"


def test_error_report() -> None:
    rng = np.random.default_rng(3)
    true = rng.uniform(4000, 7000, 2000)
    said = true + rng.normal(50, 100, 2000)
    rows: list[Row] = [{"teff": t, "teff_err": 100.0} for t in said]
    rows[0]["teff"] = None
    rows[1]["teff_err"] = None
    labels: list[dict[str, Any]] = [{"teff": t} for t in true]
    labels[2]["teff"] = None
    report = error_report(numbers(), rows, labels, "")["teff"]
    assert report["n"] == 1998
    assert report["bias"] == pytest.approx(50, abs=8)
    assert report["scatter"] == pytest.approx(100, rel=0.06)
    assert report["within_1_sigma"] == pytest.approx(0.62, abs=0.03)
    assert error_report(numbers(), rows, labels, "baseline_") == {}


def test_two_models_are_compared_on_the_same_objects() -> None:
    rows, examples = sample(100)
    others = [row(r["baseline_class_name"], "faint", "faint") for r in rows]
    report = against(TASK, rows, others, examples, draws=100)
    assert list(report) == ["learned", "best"]
    value, low, _ = report["learned"]["accuracy"]
    assert value == pytest.approx(0.2)
    assert low is not None
    assert low > 0


def test_a_figure_that_is_not_there_is_null() -> None:
    assert interval(float("nan"), [float("nan"), None]) == (None, None, None)
    assert interval(1.0, [1.0, float("nan"), 3.0]) == (1.0, pytest.approx(1.05), pytest.approx(2.95))
    assert judge(TASK, [], []) == {"n": 0, "groups": 0}
