"""The bias audit finds the group whose labels were spoilt, that one only, and nothing where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finetune import tasks
from finetune.audit import audit, warnings
from finetune.breakdown import Axis
from finetune.bundle import Info
from finetune.card import model_card
from finetune.task import Example, Row
from transforms.records import Spectrum

TASK = tasks.get("stellar_parameters")
EMPTY = {c.name: None for c in TASK.all_columns()}
TELESCOPES = ("SDSS", "LAMOST", "DESI", "WHT")


def stars(n: int, seed: int, scatter: float) -> tuple[list[Row], list[Example]]:
    """Answers with errors of 0.01 dex in Teff and 0.1 in the others, times ``scatter``; telescopes in turn."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng((seed, int(100 * scatter)))
    rows, examples = [], []
    for i in range(n):
        labels = {"teff": rng.uniform(4000, 7000), "logg": rng.uniform(1, 5), "fe_h": rng.uniform(-2, 0.3)}
        record = Spectrum(
            source=f"{i}.fits", object_id=f"s{i}", wavelength=np.arange(3.0), flux=np.zeros(3, np.float32),
            mask=np.zeros(3, bool), instrument=TELESCOPES[i % 4],
        )  # fmt: skip
        examples.append(Example(record=record, labels=labels, group=f"s{i}"))
        answer = {
            "teff": labels["teff"] * 10 ** noise.normal(0, 0.01 * scatter),
            "logg": labels["logg"] + noise.normal(0, 0.1 * scatter),
            "fe_h": labels["fe_h"] + noise.normal(0, 0.1 * scatter),
        }
        rows.append({**EMPTY, **answer, "flags": 0, "snr": rng.uniform(5, 100)})
    return rows, examples


def axes(rows: list[Row], examples: list[Example]) -> list[Axis]:
    return [
        Axis("telescope", "telescope", "", [e.record.instrument for e in examples]),
        Axis("snr", "signal to noise", "", [row["snr"] for row in rows]),
    ]


def run(rows: list[Row], before: list[Row] | None, examples: list[Example]) -> dict[str, Any]:
    return audit(TASK, rows, before, examples, axes(rows, examples))


def groups(report: dict[str, Any], why: str) -> set[tuple[str, str]]:
    return {(one["axis"], one["part"]) for one in report["behind"] if one["why"] == why}


def spoil(examples: list[Example], telescope: str) -> list[Example]:
    """One telescope's gravities come from a table of other stars."""
    out = list(examples)
    places = [i for i, e in enumerate(examples) if e.record.instrument == telescope]
    for here, there in zip(places, places[1:] + places[:1], strict=True):
        out[here] = replace(examples[here], labels={**examples[here].labels, "logg": examples[there].labels["logg"]})
    return out


def test_one_telescope_with_spoilt_labels_is_found_and_no_other() -> None:
    rows, examples = stars(160, 0, 1.0)
    before, _ = stars(160, 0, 4.0)
    report = run(rows, before, spoil(examples, "DESI"))
    assert groups(report, "average") == {("telescope", "DESI")}
    assert {one["figure"] for one in report["behind"]} == {"logg_median_error", "bias_logg"}
    said = warnings(report)
    assert any(sentence.startswith("telescope DESI (40 objects): logg_median_error is ") for sentence in said)
    clean = run(rows, before, examples)
    assert clean["behind"] == [], "the same objects with their own labels"


def test_a_group_that_the_training_made_worse_is_told_even_where_it_is_no_worse_than_others() -> None:
    rows, examples = stars(160, 1, 2.0)
    before, _ = stars(160, 1, 4.0)
    good, _ = stars(160, 1, 0.5)
    was = [good[i] if e.record.instrument == "WHT" else before[i] for i, e in enumerate(examples)]
    report = run(rows, was, examples)
    assert groups(report, "before") == {("telescope", "WHT")}
    assert groups(report, "average") == set()
    part = next(p for p in report["axes"]["telescope"]["parts"] if p["part"] == "WHT")
    figure = part["figures"]["teff_median_error"]
    value, low, high = figure["difference"]
    assert value == pytest.approx(figure["after"] - figure["before"])
    assert 0 < low < value < high


@pytest.mark.slow
def test_false_alarms_are_rare() -> None:
    alarms = 0
    for seed in range(4):
        rows, examples = stars(120, 20 + seed, 1.0)
        same, _ = stars(120, 20 + seed, 1.01)  # another draw of the same errors
        alarms += bool(run(rows, same, examples)["behind"])
    assert alarms <= 1, "each has a chance of one in ten: two lists of 5 %"


def test_without_a_model_to_compare_with_only_the_average_counts() -> None:
    rows, examples = stars(60, 3, 1.0)
    report = run(rows, None, examples)
    assert (report["compared"], report["behind"]) == (False, [])
    assert "before" not in report["axes"]["telescope"]["parts"][0]["figures"]["teff_median_error"]
    assert audit(TASK, rows, None, examples, [])["axes"] == {}


def test_the_model_card_warns() -> None:
    rows, examples = stars(60, 4, 1.0)
    report = run(rows, None, examples)
    evaluation = {"n": 60, "groups": 60, "draws": 10, "metrics": {}, "differences": {}}
    evaluation["metrics"] = {answer: {} for answer in ("learned", "baseline", "best")}
    info = Info(task=TASK.name, task_version=1, package_version="0")
    clean = model_card(TASK, info, "d", {"test": {**evaluation, "audit": report}})
    assert "None of telescope, signal to noise is worse than all objects (learned answer" in clean
    fault = {
        "axis": "telescope", "title": "telescope", "part": "WHT", "n": 15, "figure": "teff_median_error", "value": 0.05,
        "why": "before", "reference": 0.02, "error": 0.003,
    }  # fmt: skip
    behind = {**report, "compared": True, "behind": [fault]}
    card = model_card(TASK, info, "d", {"test": {**evaluation, "audit": behind}})
    said = "telescope WHT (15 objects): teff_median_error is 0.05, against 0.02 before the training (chance: 0.003)"
    assert f"- **Warning**: {said}" in card
