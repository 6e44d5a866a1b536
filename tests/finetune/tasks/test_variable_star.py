"""The task of variable stars: input, model, trees, rule, flags; the bundle that ships on simulated and real stars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune.boosted_trees import BoostedTrees, table
from finetune.bundle import bundled
from finetune.calibrate import fit_temperature, softmax
from finetune.class_probabilities import blend, class_metrics, fit_blend
from finetune.light_curve_network import QuantileScale
from finetune.light_curve_tokens import INPUTS, N_SLOT, N_TOKEN, inputs
from finetune.predict import load_predictor
from finetune.tasks.variable_star import CLASSES, TASK, augment, choose, decode
from finetune.train import train_task
from finetune.training_options import make_options
from transforms.flags import bits
from transforms.period import measure_light_curve
from transforms.simulate.light_curves import simulate_light_curves

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def examples():
    return [replace(e, record=measure_light_curve(e.record, {})) for e in TASK.simulate(60, 2)]


@pytest.fixture(scope="module")
def prepared(examples):
    return [TASK.prepare(e.record) for e in examples]


def test_prepared_arrays(examples, prepared):
    for example, one in zip(examples, prepared, strict=True):
        assert one["magnitude"].shape == (N_TOKEN, N_SLOT)
        assert all(np.isfinite(value).all() for value in one.values())
        assert one["valid"].sum() == min(example.record.measured["n_visits"], N_TOKEN)
        assert one["seen"].sum() <= example.record.measured["n_good"]
        assert (one["thinned"][0] > 0) == (example.record.measured["n_visits"] > N_TOKEN)


def test_brightness_position_and_date_do_not_enter(examples):
    record = examples[0].record
    moved = replace(
        record,
        flux=record.flux * 7,
        flux_err=record.flux_err * 7,
        ra=1.0,
        dec=2.0,
        time=record.time + 1000,
        measured={},
    )
    first, second = (TASK.prepare(measure_light_curve(r, {})) for r in (replace(record, measured={}), moved))
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=2e-3, err_msg=name)


def test_first_phase_is_zero_at_maximum_light():
    record, _ = simulate_light_curves(1, 9, classes=("rrc",))[0]
    one = TASK.prepare(measure_light_curve(record, {}))
    phase = (2 * one["phase"][:, 0]) % 1
    used = one["seen"].sum(1) > 0
    light = -(one["magnitude"] * one["seen"]).sum(1) / np.maximum(one["seen"].sum(1), 1)
    near = np.minimum(phase, 1 - phase) < 0.15
    assert light[used & near].mean() > light[used & ~near].mean() + 0.2


def test_missing_numbers_are_marked(examples):
    bare = inputs(replace(examples[0].record, measured={}))
    assert bare.shape == (len(INPUTS),)
    assert np.isnan(bare).all()


def test_phase_folded_and_few_points_give_no_answer(examples):
    model = TASK.build(**SMALL).eval()
    records = [replace(examples[0].record, flags=bits("PHASE_FOLDED")), _cut(examples[1].record, 3)]
    batch = [TASK.prepare(r) for r in records]
    names = ("magnitude", "log_error", "seen", "time", "phase", "valid", "numbers", "known")
    with torch.no_grad():
        out = model(**{n: torch.as_tensor(np.stack([b[n] for b in batch])) for n in names})
    rows = decode({k: v.numpy() for k, v in out.items()}, batch, {})
    for row in rows:
        assert row["variable_class"] is None
        assert row["p_rrab"] is None
        assert row["flags"] & bits("FEW_POINTS")


def _cut(record, n):
    return replace(record, **{k: getattr(record, k)[:n] for k in ("time", "flux", "flux_err", "band", "quality")})


def test_decode_flags_and_probabilities(prepared):
    logits = np.zeros((3, len(CLASSES)), np.float32)
    logits[0, 2], logits[2] = 9.0, np.nan
    rows = decode({"logits": logits, "outside": np.array([0.0, 0.5, 0.0])}, prepared[:3], {"temperature": 1.0})
    assert rows[0]["variable_class"] == "ea"
    assert sum(rows[0][f"p_{n}"] for n in CLASSES) == pytest.approx(1)
    assert rows[1]["flags"] & bits("AMBIGUOUS")
    assert rows[1]["flags"] & bits("OUT_OF_SUPPORT")
    assert not rows[0]["flags"] & bits("OUT_OF_SUPPORT", "AMBIGUOUS")
    assert rows[2]["flags"] & bits("MODEL_FAILED")
    assert rows[2]["p_max"] is None


def test_augment_keeps_shapes_and_inputs(prepared):
    batch = {name: np.stack([p[name] for p in prepared]) for name in prepared[0]}
    before = {name: value.copy() for name, value in batch.items()}
    out, _ = augment(batch, {}, np.random.default_rng(0))
    for name, value in before.items():
        np.testing.assert_array_equal(batch[name], value)
        assert out[name].shape == value.shape
        assert out[name].dtype == value.dtype
    assert out["seen"].sum() < batch["seen"].sum()


def test_quantile_scale_is_even_and_knows_the_outside():
    scale = QuantileScale(2)
    numbers = np.random.default_rng(0).lognormal(0, 1, (4000, 2)).astype(np.float32)
    scale.fit(numbers, np.ones_like(numbers))
    scaled, outside = scale(torch.as_tensor(numbers), torch.ones(4000, 2))
    assert abs(float(scaled.mean())) < 0.02
    assert float(scaled.std()) == pytest.approx(3.4 / 12**0.5, rel=0.03)
    assert float(outside.mean()) < 0.01
    far = scale(torch.tensor([[1e4, 1.0]]), torch.ones(1, 2))
    assert float(far[1][0]) == 0.5
    missing = scale(torch.zeros(1, 2), torch.zeros(1, 2))
    assert float(missing[0].abs().sum()) == 0


def test_trees_learn_and_survive_as_text(examples, prepared):
    trees = BoostedTrees(CLASSES, "variable_class", trees=20)
    trees.fit(examples, prepared, seed=0)
    arrays, meta = trees.state()
    again = BoostedTrees(CLASSES, "variable_class")
    again.restore(arrays, meta)
    np.testing.assert_array_equal(trees.probabilities(prepared), again.probabilities(prepared))
    truth = [e.labels["variable_class"] for e in examples]
    answers = [row["baseline_variable_class"] for row in trees.predict(prepared)]
    assert np.mean([a == t for a, t in zip(answers, truth, strict=True)]) > 0.6
    assert np.isnan(table(prepared)).any(), "missing numbers stay missing for the trees"
    with pytest.raises(ValueError, match="stored trees know classes"):
        BoostedTrees(("a", "b"), "variable_class").restore(arrays, meta)
    with pytest.raises(RuntimeError, match="neither fitted nor restored"):
        BoostedTrees(CLASSES, "variable_class").predict(prepared)


def test_temperature_and_blend_are_learnt():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 2000)
    logits = np.eye(3)[target] * 1.0 + rng.normal(0, 0.7, (2000, 3))
    assert fit_temperature(4 * logits, target) == pytest.approx(4 * fit_temperature(logits, target), rel=0.15)
    good, noise = softmax(logits, 0.5), softmax(rng.normal(0, 1, (2000, 3)), 1.0)
    assert fit_blend(good, noise, target)["weight"] >= 0.8
    assert fit_blend(noise, good, target)["weight"] <= 0.2
    np.testing.assert_allclose(blend(good, noise, 1.0, 1.0), good, atol=1e-5)
    assert fit_blend(good[:5], noise[:5], target[:5]) == {"weight": 0.5, "temperature": 1.0}


def test_choice_takes_what_there_is():
    def row(prefix, name, value):
        p = {f"{prefix}p_{n}": (value if n == name else (1 - value) / 9) if name else None for n in CLASSES}
        return {f"{prefix}variable_class": name, f"{prefix}p_max": value if name else None, **p}

    both = choose(row("", "ea", 0.9), row("baseline_", "ew", 0.5), {"weight": 0.5, "temperature": 1.0})
    assert both["best_variable_class"] == "ea"
    assert both["best_method"] == "mean"
    assert both["flags"] & bits("DISAGREE")
    alone = choose(row("", None, 0), row("baseline_", "ew", 0.5), {})
    assert (alone["best_variable_class"], alone["best_method"]) == ("ew", "baseline")
    none = choose(row("", None, 0), row("baseline_", None, 0), {})
    assert none["best_variable_class"] is none["best_method"] is none["best_p_rrab"] is None


def test_metrics_of_a_perfect_and_of_a_missing_answer():
    rows = [
        {"variable_class": "ea", "p_max": 1.0, **{f"p_{n}": float(n == "ea") for n in CLASSES}},
        {"variable_class": None, "p_max": None, **{f"p_{n}": None for n in CLASSES}},
    ]
    found = class_metrics("variable_class", CLASSES, rows, [{"variable_class": "ea"}, {"variable_class": "ew"}], "")
    assert found["accuracy"] == 0.5
    assert found["recall_ew"] == 0
    assert class_metrics("variable_class", CLASSES, rows, [{"variable_class": "nova"}] * 2, "") == {}


def test_training_end_to_end(examples):
    task = replace(TASK, options={**TASK.options, "build": SMALL})
    options = make_options(task, {"steps": 25, "batch_size": 16, "evaluations": 2, "ema": 0.0, "seed": 0})
    trained = train_task(task, examples[:40], examples[40:], options)
    losses = [step["loss"] for step in trained.history[0]]
    assert losses[-1] < losses[0] or losses[-1] < 2.3
    assert 0 <= trained.rule["weight"] <= 1


@pytest.fixture(scope="module")
def shipped():
    return load_predictor(bundled("variable_star"))


def test_shipped_model_knows_simulated_stars(shipped):
    found = [(measure_light_curve(r, {}), t) for r, t in simulate_light_curves(60, 991)]
    rows = []
    for first in range(0, 60, shipped.batch_size):
        rows += shipped.predict([shipped.prepare(r) for r, _ in found[first : first + shipped.batch_size]])
    right = [row["best_variable_class"] == t.kind for row, (_, t) in zip(rows, found, strict=True)]
    assert np.mean(right) > 0.7


def test_shipped_model_knows_real_rr_lyrae(shipped, data):
    import csv

    from tests.transforms.readers.test_light_curve_readers import load

    root = data / "lightcurves"
    with (root / "labels.csv").open() as stream:
        rows = [r for r in csv.DictReader(stream) if r["file"].startswith("rrlyr_s82/")][::16]
    answers = shipped.predict([shipped.prepare(measure_light_curve(load(root / r["file"])[0], {})) for r in rows])
    right = [a["best_variable_class"] == r["class"].lower() for a, r in zip(answers, rows, strict=True)]
    assert np.mean(right) > 0.8


def test_bundle_is_small():
    assert sum(f.stat().st_size for f in bundled("variable_star").iterdir()) < 8 * 2**20


def test_light_curves_without_an_answer_calibrate_nothing():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(TASK.classes), 200)
    logits = rng.normal(0, 1, (200, len(TASK.classes)))
    logits[np.arange(200), truth] += 2
    outputs = {"logits": logits, "outside": rng.uniform(0, 1, 200)}
    targets = [{"target": np.array(t)} for t in truth]
    prepared = [{"valid": np.ones(20), "thinned": np.zeros(1)}] * 200
    whole = TASK.calibrate(outputs, prepared, targets)
    outside = np.r_[outputs["outside"], np.full(50, 9.0)]
    more = {"logits": np.concatenate([logits, -5 * logits[:50]]), "outside": outside}
    few = [*prepared, *[{"valid": np.zeros(20), "thinned": np.zeros(1)}] * 50]
    assert TASK.calibrate(more, few, [*targets, *targets[:50]]) == whole
