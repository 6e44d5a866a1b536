from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.calibrate import softmax
from finetune.commands import run_evaluate, run_train
from finetune.label_noise import (
    FEWEST,
    confident_suspects,
    find_suspects,
    out_of_fold,
    outlying,
    suspects_csv,
    suspects_report,
)
from tests.finetune.test_breakdown import TASK as STARS
from tests.finetune.test_breakdown import stars
from tests.finetune.test_class_sets import both
from tests.finetune.toy_task import TASK as TOY


def sky(n: int, seed: int, k: int = 5, flipped: float = 0.08) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of a fair model, given labels, and which of them were flipped; class 0 is told with less surety."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    logits = rng.normal(0, 1, (n, k))
    logits[np.arange(n), truth] += np.where(truth == 0, 2.5, 4.0)
    wrong = rng.random(n) < flipped
    given = np.where(wrong, (truth + rng.integers(1, k, n)) % k, truth)
    return softmax(logits), given, wrong


def test_labels_that_were_flipped_are_found() -> None:
    p, given, wrong = sky(2000, 0)
    found = confident_suspects(p, given)
    hits = [wrong[i] for i, *_ in found]
    assert np.mean(hits) > 0.95, "precision"
    assert sum(hits) / wrong.sum() > 0.7, "recall"
    scores = [score for *_, score in found]
    assert scores == sorted(scores, reverse=True)


def test_where_no_label_is_wrong_few_are_suspected() -> None:
    p, given, _ = sky(2000, 1, flipped=0.0)
    assert len(confident_suspects(p, given)) < 0.03 * 2000


def test_no_label_no_answer_and_no_such_class_are_not_suspect() -> None:
    p, given, _ = sky(200, 2)
    p[:20] = np.nan
    given[20:40] = -1
    given[given == 3] = 1  # nobody names class 3, so it is never suggested
    found = confident_suspects(p, given)
    assert found
    assert not {i for i, *_ in found} & set(range(40))
    assert 3 not in {best for _, best, _ in found}
    assert confident_suspects(np.zeros((0, 5)), np.zeros(0, int)) == []


def test_numbers_far_off_are_found_whatever_the_units() -> None:
    rng = np.random.default_rng(3)
    error = rng.uniform(0.5, 2, 400)
    residual = 0.3 + rng.normal(0, 3, 400) * error  # the stated errors are too small by three
    residual[[5, 70]] += [60, -45]
    for unit in (1.0, 1e-6, 1e6):
        assert {i for i, _ in outlying(unit * residual, unit * error)} == {5, 70}
    assert outlying(residual[: FEWEST - 1]) == []
    assert outlying(np.ones(50)) == []
    residual[7] = np.nan
    assert 7 not in {i for i, _ in outlying(residual, error)}


def test_suspects_of_measured_stars_are_named() -> None:
    rows, examples = stars(200, 4)
    examples[17] = replace(examples[17], labels={**examples[17].labels, "logg": examples[17].labels["logg"] + 2})
    examples[18] = replace(examples[18], labels={**examples[18].labels, "teff": None})
    found = find_suspects(STARS, rows, examples, "best_")
    assert [(one.object_id, one.label) for one in found] == [("s17", "logg")]
    assert found[0].given - found[0].suggested == pytest.approx(2, abs=0.5)
    assert (found[0].ra, found[0].source) == (examples[17].record.ra, "17.fits")
    report = suspects_report(found, 200, "best")
    assert (report["n"], report["judged"], report["first"][0]["object_id"]) == (1, 200, "s17")
    assert find_suspects(STARS, [], [], "best_") == []


def test_the_table_comes_back_as_it_was() -> None:
    rows, examples = stars(60, 5)
    examples[3] = replace(
        examples[3],
        record=replace(examples[3].record, object_id='a "b", c'),
        labels={**examples[3].labels, "fe_h": 9.0},
    )
    found = find_suspects(STARS, rows, examples, "")
    (back,) = csv.DictReader(io.StringIO(suspects_csv(found)))
    assert back["object_id"] == 'a "b", c'
    assert float(back["ra"]) == examples[3].record.ra, "a position keeps all its digits"
    assert (back["given"], back["p_given"]) == ("9", "")


class Logistic:
    """A baseline with probabilities: a logistic regression on the mean flux."""

    def fit(self, examples, prepared, *, seed):
        from sklearn.linear_model import LogisticRegression

        names = [one.labels["class_name"] for one in examples]
        self.model = LogisticRegression().fit([[one["flux"].mean()] for one in prepared], names)

    def predict(self, prepared):
        p = self.model.predict_proba([[one["flux"].mean()] for one in prepared])
        return [{"baseline_p_bright": one[0], "baseline_p_faint": one[1]} for one in p]


def test_flipped_labels_of_simulated_stars_are_found_by_the_baseline_out_of_fold() -> None:
    task = replace(TOY, baseline=Logistic)
    wrong = set(np.random.default_rng(0).permutation(200)[:20].tolist())
    examples = [
        replace(
            one, labels={"class_name": "bright" if (one.labels["class_name"] == "faint") == (i in wrong) else "faint"}
        )
        for i, one in enumerate(TOY.simulate(200, 6))
    ]
    kept, rows = out_of_fold(task, examples, [task.prepare(one.record) for one in examples], seed=1)
    assert sorted(e.group for e in kept) == sorted(e.group for e in examples), "each is answered once"
    found = {one.object_id for one in find_suspects(task, rows, kept, "baseline_")}
    truly = {examples[i].record.object_id for i in wrong}
    assert len(found & truly) / len(found) > 0.85, "precision"
    assert len(found & truly) / len(truly) > 0.85, "recall"
    assert out_of_fold(task, examples[:5], []) == ([], [])


def test_the_commands_write_suspects(sky: Path) -> None:
    task, labels = both(TOY), sky / "labels.csv"
    said: list[str] = []
    report = run_train(
        task, str(labels), [str(sky / "night")], sky / "b", options={"steps": 80}, suspects=sky / "train.csv", draws=5,
        say=said.append,
    )  # fmt: skip
    assert report["suspect_labels"]["judged"] == 51, "training and validation objects"
    assert any("of 51 labels are suspect: wrote" in text for text in said)
    assert (sky / "train.csv").read_text().startswith("object_id,source,hdu,row,ra,dec,group,label,given,suggested")
    text = labels.read_text().splitlines()
    text[8] = text[8].replace("bright", "?").replace("faint", "bright").replace("?", "faint")
    labels.write_text("\n".join(text) + "\n")
    report = run_evaluate(
        sky / "b", str(labels), [str(sky / "night")], task=task, seen=True, suspects=sky / "s.csv", draws=5
    )
    assert report["suspect_labels"]["judged"] == report["n"] == 60
    assert [one["object_id"] for one in report["suspect_labels"]["first"]] == [text[8].split(",")[0]]
    assert len((sky / "s.csv").read_text().splitlines()) == 2
