"""The morphology task: columns, nulls, independence of a row from its batch, learning, storage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune import morphology_training
from finetune.bundle import Info, load_bundle
from finetune.bundle_writing import save_bundle
from finetune.losses import class_loss
from finetune.partial_labels import exact_class, parse_label
from finetune.predict import make_predictor
from finetune.tasks import get
from transforms.flags import decode as names
from transforms.morphology import NUMBERS
from transforms.records import Cutout

TASK = get("galaxy_morphology")


@pytest.fixture(scope="module")
def examples():
    return TASK.simulate(16, 3)


@pytest.fixture(scope="module")
def prepared(examples):
    return [TASK.prepare(e.record) for e in examples]


@pytest.fixture(scope="module")
def fitted(examples, prepared):
    """A baseline on few stamps, and a network whose head has seen them: not good, but whole."""
    torch.set_num_threads(1)
    baseline = TASK.baseline()
    baseline.fit(examples, prepared, seed=0)
    torch.manual_seed(0)
    model = TASK.build(dihedrals=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(morphology_training, "HEAD_PASSES", 640)
        morphology_training.initialise(model, examples, prepared, baseline)
    return model.eval(), baseline


@pytest.fixture(scope="module")
def predictor(fitted):
    return make_predictor(TASK, [fitted[0]], fitted[1], calibration={}, rule={"learned": 0.6})


def test_simulated_examples_are_labelled_and_reproducible(examples):
    again = TASK.simulate(16, 3)
    assert [e.labels for e in again] == [e.labels for e in examples]
    np.testing.assert_array_equal(again[5].record.flux, examples[5].record.flux)
    assert {e.labels["morphology_class"] for e in TASK.simulate(40, 1)} == set(TASK.classes)
    assert len({e.group for e in examples}) == len(examples)


def test_prepare_is_deterministic_and_leaves_the_record_alone(examples):
    record = examples[0].record
    before = record.flux.copy()
    first, second = TASK.prepare(record), TASK.prepare(record)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    np.testing.assert_array_equal(record.flux, before)
    assert first["views"].shape == (2, 3, 160, 160)
    assert np.isfinite(first["numbers"]).all()


def test_numbers_that_were_measured_before_are_used(examples):
    from transforms.morphology import measure_morphology

    record = examples[0].record
    measured = replace(record, measured={**measure_morphology(record), "other": 1.0})
    for name, value in TASK.prepare(measured).items():
        np.testing.assert_array_equal(value, TASK.prepare(record)[name])


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(9, 9), (40, 64), (300, 200)])
def test_prepare_takes_any_number_of_bands_and_any_shape(bands, shape):
    flux = np.random.default_rng(0).normal(0, 1, (bands, *shape)).astype(np.float32)
    record = Cutout(source="x", flux=flux, mask=np.zeros(flux.shape, bool), bands=("g", "r", "i", "z", "y")[:bands])
    assert TASK.prepare(record)["views"].shape == (2, 3, 160, 160)


def test_colours_follow_wavelength_not_order():
    flux = np.zeros((3, 32, 32), np.float32)
    flux[2, 10:20, 10:20] = 500.0
    common = {"source": "x", "mask": np.zeros(flux.shape, bool), "ivar": np.ones(flux.shape, np.float32)}
    first = TASK.prepare(Cutout(flux=flux, bands=("g", "r", "i"), **common))["views"]
    second = TASK.prepare(Cutout(flux=flux[::-1].copy(), bands=("i", "r", "g"), **common))["views"]
    np.testing.assert_array_equal(first, second)
    assert first[0, 0].max() > 200 > first[0, 2].max()


def test_rows_have_exactly_the_columns(predictor, prepared):
    rows = predictor.predict(prepared[:3])
    expected = {c.name for c in TASK.all_columns()} | {"flags"}
    for row in rows:
        assert set(row) == expected
        for prefix in ("", "baseline_", "best_"):
            assert sum(row[f"{prefix}p_{c}"] for c in TASK.classes) == pytest.approx(1, abs=1e-4)
        assert row["p_max"] == max(row[f"p_{c}"] for c in TASK.classes)
        assert row["best_method"] == "mixture"


def test_no_data_gives_nulls_and_flags(predictor, prepared):
    dead = np.full((1, 40, 40), np.nan, np.float32)
    flat = np.full((1, 40, 40), 7.0, np.float32)
    for flux in (dead, flat):
        record = Cutout(source="x", flux=flux, mask=np.zeros(flux.shape, bool))
        row = predictor.predict([TASK.prepare(record), prepared[0]])[0]
        assert all(row[c.name] is None for c in TASK.all_columns())
        assert {"NO_DATA", "MODEL_FAILED"} <= set(names(row["flags"]))


def test_a_stamp_too_faint_to_judge_says_so(predictor, prepared):
    noise = np.random.default_rng(0).normal(0, 1, (1, 64, 64)).astype(np.float32)
    record = Cutout(source="x", flux=noise, mask=np.zeros(noise.shape, bool), ivar=np.ones(noise.shape, np.float32))
    row = predictor.predict([TASK.prepare(record), prepared[0]])[0]
    assert row["morphology_class"] is not None
    assert "OUT_OF_SUPPORT" in names(row["flags"])


def test_masked_pixels_do_not_matter(examples):
    record = next(e.record for e in examples if e.record.unit == "adu")
    mask = record.mask.copy()
    mask[:, :6, :6] = True
    garbage = record.flux.copy()
    garbage[:, :6, :6] = 1e6
    first = TASK.prepare(replace(record, mask=mask))
    second = TASK.prepare(replace(record, mask=mask, flux=garbage))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_row_depends_neither_on_place_nor_on_mates(predictor, prepared):
    whole = predictor.predict(prepared[:8])
    turned = predictor.predict(prepared[:8][::-1])[::-1]
    alone = [predictor.predict([one])[0] for one in prepared[:3]]
    assert whole == turned
    assert whole[:3] == alone


def test_raw_outputs_are_bit_identical_at_fixed_batch_size(fitted, prepared):
    from finetune.network import Network

    network = Network([fitted[0]], torch.device("cpu"))
    whole, alone = network(prepared[:8], 8), network(prepared[5:6], 8)
    np.testing.assert_array_equal(whole["logits"][5], alone["logits"][0])


def test_the_folded_network_is_the_trained_one_and_leaves_it_trainable(fitted, prepared):
    from finetune.network import Network

    model = fitted[0]
    folded = Network([model], torch.device("cpu"))(prepared[:8], 8)["logits"]
    with torch.no_grad():
        arrays = {n: torch.from_numpy(np.stack([p[n] for p in prepared[:8]])) for n in ("views", "numbers", "known")}
        plain = model.eval()(**arrays)["logits"].numpy()
    np.testing.assert_allclose(folded, plain, atol=1e-4)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    assert any(p.requires_grad for p in model.parameters())


def test_few_steps_lower_the_loss(fitted, examples, prepared, tmp_path):
    from finetune.trainer import SurveyTrainer
    from finetune.training_options import make_options

    torch.manual_seed(1)
    model = TASK.build(dihedrals=1)
    pooled = torch.from_numpy(fitted[1].features[:, 0])
    numbers = torch.from_numpy(np.stack([p["numbers"] for p in prepared]))
    model.fit_statistics(pooled, numbers, torch.from_numpy(np.stack([p["known"] for p in prepared])))
    pairs = [(p, TASK.encode(e.labels)) for p, e in zip(prepared, examples, strict=True)]
    options = make_options(TASK, {"steps": 6, "batch_size": 8, "evaluations": 2, "learning_rate": 2e-3, "warmup": 0.0})
    history = SurveyTrainer(TASK, model, pairs, pairs, options, 0, str(tmp_path)).fit()
    assert history[-1]["validation"] < np.log(5)
    assert not any(m.training for m in model.modules())


def test_bundle_round_trip(fitted, prepared, tmp_path, predictor):
    model, baseline = fitted
    info = Info(
        task=TASK.name, task_version=1, package_version="0", build={"dihedrals": 1}, rule={"learned": 0.6},
        classes=TASK.classes,
    )  # fmt: skip
    bundle = save_bundle(tmp_path / "b", info=info, models=[model], baseline=baseline, storage="fp32")
    loaded = load_bundle(bundle.path)
    again = make_predictor(
        TASK, loaded.models(TASK), loaded.baseline(TASK), calibration={}, rule=loaded.info.rule
    )  # fmt: skip
    assert again.predict(prepared[:4]) == predictor.predict(prepared[:4])
    half = save_bundle(tmp_path / "h", info=info, models=[model], baseline=baseline)
    assert sum(f.stat().st_size for f in half.path.rglob("*") if f.is_file()) <= 8 * 2**20


def test_transformers_own_form(fitted, tmp_path, prepared):
    from finetune.morphology_model import MorphologyModel

    fitted[0].save_pretrained(tmp_path)
    loaded = MorphologyModel.from_pretrained(tmp_path).eval()
    state = fitted[0].state_dict()
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())


def test_calibration_and_rule(fitted):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 300)
    logits = 8 * np.eye(5)[np.where(rng.random(300) < 0.7, truth, rng.integers(0, 5, 300))]
    outputs = {"logits": logits, "embedding": rng.normal(0, 1, (300, 64)) + truth[:, None]}
    targets = [TASK.encode({"morphology_class": TASK.classes[t]}) for t in truth]
    calibration = TASK.calibrate(outputs, [], targets)
    assert calibration["temperature"] > 1.5
    usable = [{"usable": np.ones(()), "numbers": np.full(len(NUMBERS), 50.0)}] * 300
    before, after = TASK.decode(outputs, usable, {}), TASK.decode(outputs, usable, calibration)
    labels = [{"morphology_class": TASK.classes[t]} for t in truth]
    assert TASK.metrics(after, labels, "")["ece"] < 0.5 * TASK.metrics(before, labels, "")["ece"]
    far = {"logits": logits[:1], "embedding": np.full((1, 64), 30.0)}
    assert "OUT_OF_SUPPORT" in names(TASK.decode(far, usable[:1], calibration)[0]["flags"])
    poor = [{f"baseline_{k}": 0.2 for k in ("p_" + c for c in TASK.classes)} for _ in truth]
    rows = [{**r, **p} for r, p in zip(after, poor, strict=True)]
    assert TASK.fit_rule(after, rows, labels)["learned"] > 0.5


def test_labels_that_name_several_classes():
    assert parse_label("disk|odd", TASK.classes).tolist() == [0, 1, 0, 1, 0]
    assert exact_class(parse_label("odd", TASK.classes)) == 3
    assert exact_class(parse_label("smooth:0.9|disk:0.4", TASK.classes)) is None
    assert parse_label(None, TASK.classes).tolist() == [1] * 5
    for wrong in ("spiral", "disk:1.5", "disk:0"):
        with pytest.raises(ValueError, match=wrong.split(":")[0]):
            parse_label(wrong, TASK.classes)
    logits = torch.tensor([[0.0, 3.0, 0.0, 3.0, 0.0]])
    both = class_loss(logits, torch.tensor(parse_label("disk|odd", TASK.classes))[None])
    one = class_loss(logits, torch.tensor(parse_label("disk", TASK.classes))[None])
    assert both < 0.2 < one
