"""The gate on answers of which we know how good they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finetune.gate import Limits, judge_candidate
from finetune.task import Example, Labels, Prepared, Row
from tests.finetune import toy_task

N = 400
CLASSES = toy_task.CLASSES


def metrics(rows: Sequence[Row], labels: Sequence[Labels], prefix: str) -> dict[str, float]:
    truth = np.array([label["class_name"] for label in labels])
    said = np.array([row[f"{prefix}class_name"] for row in rows])
    out = {"accuracy": float(np.mean(truth == said)), "ece": float(rows[0].get("ece", 0.01))}
    return out | {f"recall_{name}": float(np.mean(said[truth == name] == name)) for name in CLASSES}


TASK = replace(toy_task.TASK, metrics=metrics, merit=("accuracy",))


class Answers:
    """A model with known recall of each class; right and wrong answers fall on the same objects for all models."""

    def __init__(
        self, faint: float, bright: float, *, ece: float = 0.01, seconds: float = 0.0, offset: int = 0
    ) -> None:
        self.recall = dict(zip(CLASSES, (faint, bright), strict=True))
        self.ece, self.seconds, self.offset = ece, seconds, offset
        self.digest = f"{faint}-{bright}"

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        time.sleep(self.seconds)
        return [self._row(one) for one in batch]

    def _row(self, one: Prepared) -> Row:
        number = int(one["number"])
        kind = number % 2
        luck = ((number // 2 + self.offset) * 61 % (N // 2)) / (N // 2)
        right = luck < self.recall[CLASSES[kind]]
        said = CLASSES[kind if right else 1 - kind]
        empty = {column.name: None for column in TASK.all_columns()}
        answers = {
            "class_name": said,
            "best_class_name": said,
            "baseline_class_name": CLASSES[kind if luck < 0.8 else 1 - kind],
        }
        return {**empty, **answers, "flags": 0, "ece": self.ece}


def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    return [toy_task.example(f"star{i}", CLASSES[i % 2], rng) for i in range(N)]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    prepared = [{"number": np.array(i)} for i in range(N)]
    monkeypatch.setattr("finetune.gate.prepare_all", lambda task, given: (list(given), prepared[: len(given)], []))

    def run(candidate: Answers, production: Answers | None, **limits: Any) -> dict[str, Any]:
        return judge_candidate(TASK, candidate, production, examples(), Limits(**limits), draws=200)

    return run


def test_a_better_one_passes(gate: Any) -> None:
    report = gate(Answers(0.95, 0.95), Answers(0.85, 0.85))
    assert report["refused"] == []
    change, low, high = report["differences"]["accuracy"]
    assert change == pytest.approx(0.1, abs=0.01)
    assert 0.05 < low < change < high
    assert report["n"] == N
    assert report["candidate"]["metrics"]["best"]["accuracy"][0] == pytest.approx(0.95, abs=0.01)


def test_the_same_one_passes(gate: Any) -> None:
    assert gate(Answers(0.9, 0.9), Answers(0.9, 0.9), speed=0.01)["refused"] == []


def test_a_surely_worse_one_is_refused_with_the_interval(gate: Any) -> None:
    (reason,) = gate(Answers(0.84, 0.84), Answers(0.9, 0.9), speed=0.01)["refused"]
    assert reason.startswith("accuracy is worse than production's by 0.06 [-0.0")
    assert reason.endswith("surely")


def test_a_loss_that_chance_may_have_made_is_let_pass_up_to_the_tolerance(gate: Any) -> None:
    candidate, production = Answers(0.87, 0.87, offset=77), Answers(0.88, 0.88)
    assert gate(candidate, production, speed=0.01)["refused"] == []
    (reason,) = gate(candidate, production, speed=0.01, tolerance=0.001)["refused"]
    assert reason.endswith("more than 0.00088")


def test_a_class_that_is_forgotten_is_refused_though_the_whole_is_better(gate: Any) -> None:
    reasons = gate(Answers(0.65, 1.0), Answers(0.9, 0.7), speed=0.01)["refused"]
    assert [reason.split(",")[0] for reason in reasons] == ["recall of faint is 0.65"]
    (reason,) = gate(Answers(0.95, 0.85), Answers(0.9, 0.85), floors={"bright": 0.9}, speed=0.01)["refused"]
    assert reason == "recall of bright is 0.85, its floor is 0.9"
    (reason,) = gate(Answers(0.95, 0.9), Answers(0.9, 0.9), floors={"blue": 0.9}, speed=0.01)["refused"]
    assert "'blue', which has no test object" in reason


def test_an_uncalibrated_one_is_refused_unless_production_is_worse(gate: Any) -> None:
    (reason,) = gate(Answers(0.95, 0.95, ece=0.08), Answers(0.9, 0.9), speed=0.01)["refused"]
    assert reason == "calibration error is 0.08, at most 0.05 is allowed"
    assert gate(Answers(0.95, 0.95, ece=0.08), Answers(0.9, 0.9, ece=0.09), speed=0.01)["refused"] == []


def test_a_slower_one_is_refused(gate: Any) -> None:
    (reason,) = gate(Answers(0.95, 0.95, seconds=0.02), Answers(0.9, 0.9, seconds=0.005))["refused"]
    assert "objects a second" in reason


def test_without_production_the_classical_answer_is_the_rival(gate: Any) -> None:
    assert gate(Answers(0.9, 0.9), None)["refused"] == []
    reasons = gate(Answers(0.7, 0.7), None)["refused"]
    assert reasons[0].startswith("accuracy is worse than the classical answer's by 0.1 ")


def test_too_few_objects_decide_nothing(gate: Any) -> None:
    (reason,) = gate(Answers(1.0, 1.0), Answers(0.5, 0.5), objects=N + 1)["refused"]
    assert reason == f"{N} test objects that neither model has seen are too few to decide on; {N + 1} are needed"
