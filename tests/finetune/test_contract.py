"""One law for every science task: a new file in finetune/tasks is tested the moment it is there."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import math
import re
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy import units as u

from finetune import tasks
from finetune.bundle import Info, load_bundle
from finetune.bundle_writing import save_bundle
from finetune.methods import apply_method, finish_method, parameter_names, parse_method
from finetune.network import Network, accepted, stack, to_tensor
from finetune.predict import TaskPredictor, load_predictor, make_predictor
from finetune.task import Baseline, Example, Prepared, Task
from finetune.train import as_stored, prepare_all, start_model, start_options, with_backbone
from finetune.trainer import SurveyTrainer, validation_loss
from finetune.training_options import make_options
from finetune.wrappers import Finite, Learned, Typed, typed
from tests.finetune import tiny_backbones
from transforms.columns import BOOL, IDENTITY, PROVENANCE, STRING, unique
from transforms.flags import decode as flag_names
from transforms.measure import STEPS, columns, measure
from transforms.records import Cutout, Identity, LightCurve, Spectrum

COUNT = 32


@dataclass(frozen=True)
class Case:
    """A task, set up once on simulated objects."""

    task: Task
    raw: list[Example]
    examples: list[Example]
    prepared: list[Prepared]
    baseline: Baseline
    model: Any
    predictor: TaskPredictor


def steps_or_skip(record: type) -> None:
    module = STEPS[record][0]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        pytest.skip(f"{module}, the classical step of {record.__name__}, is not there yet")


def measured(record: Identity) -> Identity:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the law is about what comes out
        (only,) = measure(record, {})
    return only


@pytest.fixture(scope="module", params=tasks.names() or [pytest.param("none", marks=pytest.mark.skip("no task yet"))])
def case(request: pytest.FixtureRequest) -> Case:
    task = tasks.get(request.param)
    steps_or_skip(task.record)
    raw = task.simulate(COUNT, 0)
    examples, prepared, rejects = prepare_all(task, [replace(e, record=measured(e.record)) for e in raw])
    assert rejects == [], "simulated objects make sense"
    fitted = task.baseline()
    fitted.fit(examples, prepared, seed=0)
    baseline = as_stored(task, fitted)
    options = make_options(task, {"members": 1})
    model = start_model(task, task.options.get("build", {}), examples, prepared, fitted, options).eval()
    # a fresh model is calibrated and ruled on the same objects: the law is about form, not about skill
    batch = prepared[: task.batch_size]
    outputs = Network([model], torch.device("cpu"))(batch, task.batch_size)
    targets = [task.encode(e.labels) for e in examples[: task.batch_size]]
    calibration = task.calibrate(outputs, batch, targets)
    learned = [typed(row, task.columns) for row in task.decode(outputs, batch, calibration)]
    classical = [typed(row, task.baseline_columns) for row in baseline.predict(batch)]
    rule = task.fit_rule(learned, classical, [e.labels for e in examples[: task.batch_size]])
    predictor = make_predictor(task, [model], baseline, calibration=calibration, rule=rule)
    return Case(task, raw, examples, prepared, baseline, model, predictor)


def arrays(record: Any) -> dict[str, np.ndarray]:
    pairs = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {name: value for name, value in pairs.items() if isinstance(value, np.ndarray)}


def spoil(record: Identity) -> Identity:
    """The same object with no usable data, as a reader would hand it on."""
    if isinstance(record, Cutout):
        nothing = np.full_like(record.flux, np.nan)
        return replace(
            record, flux=nothing, ivar=np.zeros_like(nothing), mask=np.ones(nothing.shape, bool), measured={}
        )
    if isinstance(record, Spectrum):
        nothing = np.zeros_like(record.flux)
        return replace(record, flux=nothing, ivar=nothing.copy(), mask=np.ones(nothing.shape, bool), measured={})
    assert isinstance(record, LightCurve)
    nothing = np.full_like(record.flux, np.nan)
    return replace(record, flux=nothing, flux_err=nothing.copy(), quality=np.ones(nothing.shape, bool), measured={})


def test_columns_are_unique_and_documented(case: Case) -> None:
    task = case.task
    own = unique(task.all_columns())
    taken = {c.name for c in (*IDENTITY, *PROVENANCE, *columns(task.record))}
    assert not taken & {c.name for c in own}, "a column of the task hides one of the common or measured columns"
    for column in own:
        assert column.ucd, column.name
        assert column.nullable, f"{column.name}: what a model says can always be missing"
        u.Unit(column.unit, parse_strict="raise")
    assert all(c.name.startswith("best_") for c in task.best_columns)
    assert "best_method" in {c.name for c in task.best_columns}
    assert task.description.strip()
    assert task.reference.strip()
    assert set(task.label_columns)
    assert task.record in (Cutout, Spectrum, LightCurve)


def test_every_object_has_an_embedding(case: Case) -> None:
    batch = case.prepared[: case.task.batch_size]
    vectors = Network([case.model], torch.device("cpu"))(batch, case.task.batch_size)["embedding"]
    assert vectors.ndim == 2
    assert len(vectors) == len(batch)
    assert np.isfinite(vectors).all()
    assert np.linalg.matrix_rank(vectors - vectors.mean(0)) > 1, "different objects have different embeddings"


def test_simulated_examples_are_whole(case: Case) -> None:
    assert len(case.raw) == COUNT
    for example in case.raw:
        assert type(example.record) is case.task.record
        assert example.group
        assert set(example.labels) <= set(case.task.label_columns) or set(case.task.label_columns) & set(example.labels)
    again = case.task.simulate(COUNT, 0)
    for one, two in zip(case.raw, again, strict=True):
        assert one.labels == two.labels
        for name, value in arrays(one.record).items():
            np.testing.assert_array_equal(value, arrays(two.record)[name])


def test_prepare_is_deterministic_and_writes_nothing(case: Case) -> None:
    record = case.examples[0].record
    before = {name: value.copy() for name, value in arrays(record).items()}
    for value in arrays(record).values():
        value.flags.writeable = False
    one, two = case.task.prepare(record), case.task.prepare(record)
    assert one.keys() == two.keys() == case.prepared[0].keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    for name, value in arrays(record).items():
        np.testing.assert_array_equal(value, before[name])


def test_prepared_records_stack(case: Case) -> None:
    for name, array in stack(case.prepared).items():
        assert array.shape[0] == COUNT
        assert array.dtype != object, name
    assert accepted(case.model, sorted(case.prepared[0])), "the model takes something of what prepare gives"


def test_decode_gives_exactly_its_columns(case: Case) -> None:
    batch = case.prepared[: case.task.batch_size]
    outputs = Network([case.model], torch.device("cpu"))(batch, case.task.batch_size)
    for value in outputs.values():
        assert value.shape[0] == len(batch)
    rows = case.task.decode(outputs, batch, {})
    assert len(rows) == len(batch)
    for row in rows:
        assert set(row) == {c.name for c in case.task.columns} | {"flags"}
    answers = case.predictor.predict(batch)
    assert [list(a) for a in answers] == [[c.name for c in case.task.all_columns()] + ["flags"]] * len(batch)
    assert any(value is not None for answer in answers for name, value in answer.items() if name != "flags")
    for answer in answers:
        for column in case.task.all_columns():
            value = answer[column.name]
            assert not isinstance(value, float) or math.isfinite(value), column.name
            assert column.type in (STRING, BOOL) or value is None or isinstance(value, int | float), column.name


def test_no_data_gives_a_flag_and_nulls_never_a_number(case: Case) -> None:
    empty = case.task.prepare(measured(spoil(case.raw[0].record)))
    row = case.predictor.predict([empty])[0]
    assert row["flags"] != 0
    numbers = {name: value for name, value in row.items() if isinstance(value, float) and name != "flags"}
    assert numbers == {}
    mate = case.prepared[1]
    assert case.predictor.predict([empty, mate])[1] == case.predictor.predict([mate])[0]


def test_an_output_that_is_not_finite_is_null_and_flagged(case: Case) -> None:
    """What decode takes from the input alone may stay; whatever hangs on the network must go."""
    task, batch, size = case.task, case.prepared[:2], case.task.batch_size
    network = Network([case.model], torch.device("cpu"))

    def poisoned(inputs: Sequence[Prepared], shape: int) -> tuple[dict[str, np.ndarray], list[int]]:
        outputs, fitted = network.fitting(inputs, shape)
        return {name: np.full_like(value, np.nan) for name, value in outputs.items()}, fitted

    good = Typed(Finite(Learned(task, network.fitting, {}), "MODEL_FAILED")).predict(batch, size)
    bad = Typed(Finite(Learned(task, poisoned, {}), "MODEL_FAILED")).predict(batch, size)
    for before, after in zip(good, bad, strict=True):
        assert "MODEL_FAILED" in flag_names(after["flags"])
        assert {n for n, v in after.items() if v is None} - {n for n, v in before.items() if v is None}
        kept = {n: v for n, v in after.items() if isinstance(v, float)}
        assert kept == {n: before[n] for n in kept}


def test_an_answer_depends_neither_on_mates_nor_on_place(case: Case) -> None:
    batch = case.prepared[: case.task.batch_size]
    together = case.predictor.predict(batch)
    assert case.predictor.predict(batch[::-1]) == together[::-1]
    for place in (0, len(batch) // 2, len(batch) - 1):
        assert case.predictor.predict([batch[place]]) == [together[place]]


def test_labels_encode_to_one_shape_and_may_be_missing(case: Case) -> None:
    full, none = case.task.encode(case.examples[0].labels), case.task.encode({})
    assert {k: np.shape(v) for k, v in full.items()} == {k: np.shape(v) for k, v in none.items()}
    batch = case.prepared[:2]
    names = accepted(case.model, sorted(batch[0]))
    with torch.inference_mode():
        outputs = case.model(**{k: to_tensor(v) for k, v in stack(batch, names).items()})
        loss = case.task.loss(outputs, {k: to_tensor(v) for k, v in stack([full, none]).items()})
    assert math.isfinite(float(loss)), "one missing label must not spoil the batch"


def test_a_few_steps_lower_the_loss(case: Case, tmp_path: Path) -> None:
    """With each object's labels handed to the next one: a head that ``initialise`` has fitted must learn anew."""
    task = replace(case.task, augment=None)
    options = make_options(task, {
        "steps": 5, "batch_size": 8, "evaluations": 0, "warmup": 0.0, "ema": 0.0, "schedule": "constant_with_warmup",
        "members": 1, "balance": (),
    })  # fmt: skip
    model = copy.deepcopy(case.model)
    labels = [e.labels for e in case.examples[:8]]
    targets = [task.encode(one) for one in [*labels[1:], labels[0]]]
    rows = list(zip(case.prepared[:8], targets, strict=True))
    before = validation_loss(task, model, rows, torch.device("cpu"))
    SurveyTrainer(task, model, rows, [], options, 0, str(tmp_path)).fit()
    assert validation_loss(task, model, rows, torch.device("cpu")) < before


@pytest.mark.parametrize("method", ["head", "layers:1", "lora", "ia3"])
def test_every_method_learns_and_leaves_the_rest_alone(case: Case, method: str, tmp_path: Path) -> None:
    """A few steps on wrong labels; what comes out has the weights of the task's own model, and few of them moved."""
    if method in ("lora", "ia3"):
        pytest.importorskip("peft")
    task = replace(case.task, augment=None)
    options = make_options(task, {
        "steps": 5, "batch_size": 8, "evaluations": 0, "warmup": 0.0, "ema": 0.0, "schedule": "constant_with_warmup",
        "members": 1, "balance": (), "method": method,
    })  # fmt: skip
    model = apply_method(copy.deepcopy(case.model), parse_method(method), task.options["head"])
    learning = {name for name, one in parameter_names(model).items() if one.requires_grad}
    labels = [e.labels for e in case.examples[:8]]
    targets = [task.encode(one) for one in [*labels[1:], labels[0]]]
    rows = list(zip(case.prepared[:8], targets, strict=True))
    before = validation_loss(task, model, rows, torch.device("cpu"))
    SurveyTrainer(task, model, rows, [], options, 0, str(tmp_path)).fit()
    after = validation_loss(task, model, rows, torch.device("cpu"))
    assert after < before
    whole = finish_method(model).eval()
    assert validation_loss(task, whole, rows, torch.device("cpu")) == pytest.approx(after, rel=1e-4)
    own = dict(case.model.named_parameters())
    assert list(dict(whole.named_parameters())) == list(own)
    moved = {name for name, one in whole.named_parameters() if not torch.equal(one, own[name])}
    head = [re.compile(pattern) for pattern in task.options["head"]]
    assert any(pattern.search(name) for pattern in head for name in moved)
    if method in ("head", "layers:1"):
        assert moved <= learning
    else:
        assert not any(own[name].ndim < 2 for name in moved if not any(pattern.search(name) for pattern in head))


def test_the_bundle_gives_the_same_answers(case: Case, tmp_path: Path) -> None:
    combined = case.predictor.rows.inner.inner.inner  # type: ignore[attr-defined]
    info = Info(
        task=case.task.name, task_version=case.task.version, package_version="0", classes=case.task.classes,
        build=case.task.options.get("build", {}), rule=combined.rule,
        calibration=combined.learned.inner.inner.calibration,
    )  # fmt: skip
    bundle = save_bundle(tmp_path / "b", info=info, models=[case.model], baseline=case.baseline, storage="fp32")
    restored = load_predictor(tmp_path / "b")
    batch = case.prepared[: case.task.batch_size]
    assert restored.predict(batch) == case.predictor.predict(batch)
    assert restored.predict(batch[::-1]) == restored.predict(batch)[::-1]
    assert restored.predict(batch[1:2]) == restored.predict(batch)[1:2]
    device, size = torch.device("cpu"), case.task.batch_size
    trained = Network(bundle.models(case.task), device)(batch, size)
    quick = Network(bundle.networks(case.task), device)(batch, size)
    assert trained.keys() == quick.keys()
    for name, values in trained.items():
        np.testing.assert_allclose(quick[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_foreign_backbone_takes_the_place_of_its_own(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained for a few steps, saved, and read back where the backbone's folder is no more."""
    monkeypatch.setattr("finetune.morphology_training.HEAD_PASSES", 640)
    family = {"text": "bert", "image": "vit"}[case.task.options["backbone"]["takes"]]
    folder = tiny_backbones.write(tmp_path / family, family)
    given = {
        "backbone": str(folder), "steps": 5, "batch_size": 8, "evaluations": 0, "warmup": 0.0, "ema": 0.0, "members": 1,
        "schedule": "constant_with_warmup", "balance": (), "storage": "fp32",
    }  # fmt: skip
    build = start_options(case.task, make_options(case.task, given))
    task, options = with_backbone(replace(case.task, augment=None), build, make_options(case.task, given))
    model = start_model(task, build, case.examples, case.prepared, case.baseline, options)
    labels = [e.labels for e in case.examples[:8]]
    targets = [task.encode(one) for one in [*labels[1:], labels[0]]]
    rows = list(zip(case.prepared[:8], targets, strict=True))
    before = validation_loss(task, model, rows, torch.device("cpu"))
    SurveyTrainer(task, model, rows, [], options, 0, str(tmp_path / "states")).fit()
    assert validation_loss(task, model, rows, torch.device("cpu")) < before
    shutil.rmtree(folder)
    info = Info(task=task.name, task_version=task.version, package_version="0", classes=task.classes, build=build)
    save_bundle(tmp_path / "b", info=info, models=[model], baseline=case.baseline, storage="fp32")
    restored = load_predictor(tmp_path / "b")
    batch = case.prepared[: task.batch_size]
    there = restored.predict(batch)
    assert there == make_predictor(task, [model], case.baseline, calibration={}, rule={}).predict(batch)
    assert restored.predict(batch[::-1]) == there[::-1], "an answer depends neither on mates nor on place"
    for place in (0, len(batch) // 2, len(batch) - 1):
        assert restored.predict([batch[place]]) == [there[place]]
    device, size = torch.device("cpu"), task.batch_size
    again = Network(load_bundle(tmp_path / "b").models(task), device)(batch, size)
    for name, values in Network([model], device)(batch, size).items():
        np.testing.assert_allclose(again[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_metrics_judge_all_three_answers(case: Case) -> None:
    size = case.task.batch_size
    rows = case.predictor.predict(case.prepared[:size])
    labels = [e.labels for e in case.examples[:size]]
    figures = [case.task.metrics(rows, labels, prefix) for prefix in ("", "baseline_", "best_")]
    assert figures[0]
    assert figures[0].keys() & figures[1].keys() & figures[2].keys(), "figures that can be compared"
    assert all(isinstance(v, int | float) for values in figures for v in values.values())
