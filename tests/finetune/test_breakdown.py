from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from finetune import tasks
from finetune.breakdown import Axis, break_down, find_axes
from finetune.task import Example, Row
from transforms.records import Spectrum

TASK = tasks.get("stellar_parameters")
EMPTY = {c.name: None for c in TASK.all_columns()}


def stars(
    n: int, seed: int, bias: Callable[[np.ndarray], np.ndarray] = np.zeros_like
) -> tuple[list[Row], list[Example]]:
    """Answers with an error of 0.008 dex, log g 0.1 and [Fe/H] 0.1, and a bias that depends on signal to noise."""
    rng = np.random.default_rng(seed)
    snr, teff = rng.uniform(5, 100, n), rng.uniform(4000, 7000, n)
    logg, metal = rng.uniform(1, 5, n), rng.uniform(-2, 0.3, n)
    rows, examples = [], []
    for i in range(n):
        record = Spectrum(
            source=f"{i}.fits", object_id=f"s{i}", ra=float(rng.uniform(0, 360)), dec=float(rng.uniform(-60, 60)),
            wavelength=np.arange(3.0), flux=np.zeros(3, np.float32), mask=np.zeros(3, bool),
            instrument="SDSS" if i % 2 else "LAMOST",
        )  # fmt: skip
        labels = {"teff": teff[i], "logg": logg[i], "fe_h": metal[i]}
        examples.append(Example(record=record, labels=labels, group=f"s{i}", origin="one"))
        answer = {
            "teff": teff[i] * 10 ** rng.normal(0, 0.008) + bias(snr)[i], "logg": logg[i] + rng.normal(0, 0.1),
            "fe_h": metal[i] + rng.normal(0, 0.1),
        }  # fmt: skip
        errors = {"teff_err": 0.008, "logg_err": 0.1, "fe_h_err": 0.1}
        both = {f"{prefix}{k}": v for prefix in ("", "best_", "baseline_") for k, v in (answer | errors).items()}
        rows.append({**EMPTY, **{k: v for k, v in both.items() if k in EMPTY}, "flags": 0, "snr": snr[i]})
    return rows, examples


def found(rows: list[Row], examples: list[Example]) -> dict:
    return break_down(TASK, rows, examples, find_axes(TASK, rows, examples))


def test_axes_are_what_differs() -> None:
    rows, examples = stars(200, 0)
    axes = {axis.name: axis for axis in find_axes(TASK, rows, examples)}
    assert set(axes) == {"snr", "true_teff", "true_logg", "true_fe_h", "sky", "telescope"}, "one origin is no axis"
    assert axes["true_teff"].unit == "K"
    assert set(axes["telescope"].values) == {"SDSS", "LAMOST"}
    assert find_axes(TASK, rows[:5], examples[:5]) == [], "too few to tell anything"


def test_a_bias_that_hides_in_the_average_is_found_where_it_is() -> None:
    rows, examples = stars(300, 1, lambda snr: np.where(snr < 24, 180.0, -45.0))
    report = found(rows, examples)
    best = [d for d in report["deviations"] if d["answer"] == "best"]
    assert best
    assert {(d["axis"], d["part"]) for d in best} == {("snr", report["axes"]["snr"]["parts"][0]["name"])}
    (bias,) = [d for d in best if d["figure"] == "bias_teff"]
    assert bias["value"] == pytest.approx(180, abs=50)
    assert bias["average"] == pytest.approx(-25, abs=30)
    part = report["axes"]["snr"]["parts"][0]
    assert (part["n"], part["low"] < part["high"]) == (60, True)
    assert part["best"]["bias_teff"] == [bias["value"], pytest.approx(20, rel=0.6)]


@pytest.mark.slow
def test_false_alarms_are_rare() -> None:
    alarms = 0
    for seed in range(6):
        rows, examples = stars(150, 10 + seed)
        alarms += any(d["answer"] == "best" for d in found(rows, examples)["deviations"])
    assert alarms <= 1


def test_missing_answers_and_labels_break_nothing() -> None:
    rows, examples = stars(60, 2)
    rows[:10] = [{**EMPTY, "flags": 1, "snr": None} for _ in range(10)]
    examples[20:] = [replace(e, labels={**e.labels, "logg": None}) for e in examples[20:]]
    report = found(rows, examples)
    assert report["axes"]["snr"]["parts"]
    assert sum(part["n"] for part in report["axes"]["snr"]["parts"]) == 50
    empty = break_down(TASK, rows, examples, [Axis("x", "x", "", [None] * 60)])
    assert empty["axes"]["x"]["parts"] == []


def test_no_part_is_a_single_object_where_many_share_a_value() -> None:
    rows, examples = stars(100, 3)
    axis = Axis("points", "good points", "", [1.0] + [2.0] * 60 + [3.0] * 39)
    parts = break_down(TASK, rows, examples, [axis])["axes"]["points"]["parts"]
    assert [part["n"] for part in parts] == [99], "the star with one point is no part to judge"
