from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune.bundle import Bundle
from finetune.optimise import freeze, make_optimizer, parameter_groups, set_dropout
from finetune.predict import load_predictor
from finetune.sampling import Collator, StepSampler, balance_weights
from finetune.task import Task
from finetune.train import Trained, prepare_all, train_task
from finetune.trainer import validation_loss
from finetune.training_options import OptionsError, TrainingOptions, make_options
from finetune.watch import Watch, copy_state
from finetune.watched_trainer import TrainingError
from tests.finetune.conftest import save
from tests.finetune.toy_task import TASK, build, example


def train(task: Task = TASK, *, n: int = 48, **options: Any) -> Trained:
    examples = task.simulate(n, 1)
    given = {"steps": 12, "evaluations": 3, **options}
    return train_task(task, examples[: n // 2], examples[n // 2 :], make_options(task, given))


def weights(trained: Trained, member: int = 0) -> np.ndarray:
    return torch.cat([v.float().flatten() for v in trained.models[member].state_dict().values()]).numpy()


def test_training_lowers_the_loss(trained: Trained) -> None:
    for history in trained.history:
        assert [h["step"] for h in history] == [10, 20, 30, 40]
        assert history[-1]["validation"] < 0.5 * history[0]["validation"]
        assert history[-1]["loss"] < history[0]["loss"]
    assert trained.counts == {"train": 80, "validation": 40, "refused": 0, "origins": {"simulated": 80}}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    assert np.array_equal(weights(train(seed=4)), weights(train(seed=4)))
    assert not np.array_equal(weights(train(seed=4)), weights(train(seed=5)))


def test_members_differ_and_the_second_is_the_first_of_the_next_seed() -> None:
    both = train(members=2, seed=4)
    assert not np.array_equal(weights(both, 0), weights(both, 1))
    assert np.array_equal(weights(both, 1), weights(train(seed=5)))


def test_initialise_sees_the_training_objects() -> None:
    trained = train(steps=0)
    examples = TASK.simulate(48, 1)[:24]
    mean = np.mean([TASK.prepare(e.record)["flux"].mean() for e in examples])
    assert trained.models[0].shift.item() == pytest.approx(mean, rel=1e-6)
    assert trained.history == [[]]


def test_the_best_state_is_kept() -> None:
    trained = train(learning_rate=0.5, steps=30, evaluations=30, clip=0, schedule="constant_with_warmup")
    losses = [h["validation"] for h in trained.history[0]]
    assert min(losses) < losses[-1], "the training was to spoil the model, or this tests nothing"
    held = TASK.simulate(48, 1)[24:]
    rows = [(TASK.prepare(e.record), TASK.encode(e.labels)) for e in held]
    assert validation_loss(TASK, trained.models[0], rows, torch.device("cpu")) == pytest.approx(min(losses), rel=0.01)


def test_patience_stops() -> None:
    trained = train(learning_rate=0.5, steps=60, evaluations=60, patience=3, clip=0, schedule="constant_with_warmup")
    losses = [h["validation"] for h in trained.history[0]]
    assert len(losses) < 60
    assert int(np.argmin(losses)) == len(losses) - 4


def test_without_validations_the_last_state_is_kept() -> None:
    trained = train(evaluations=0)
    assert [h["step"] for h in trained.history[0]] == [12]


def test_the_mean_of_the_weights_is_what_is_kept() -> None:
    plain, mean = train(evaluations=1), train(evaluations=1, ema=0.99)
    assert not np.allclose(weights(plain), weights(mean), rtol=1e-3)
    watch, model = Watch.start(0.5), torch.nn.Linear(1, 1, bias=False)
    for step, value in enumerate((1.0, 3.0), 1):
        torch.nn.init.constant_(model.weight, value)
        watch.update(model, step)
    assert watch.mean["weight"].item() == pytest.approx(1.0 + (3.0 - 1.0) * (1 - 3 / 12))


def test_a_training_that_was_broken_off_goes_on_to_the_same_model(tmp_path: Path) -> None:
    folder = str(tmp_path / "states")

    class Broken(RuntimeError):
        pass

    calls = 0

    def failing(prepared: Any, targets: Any, rng: np.random.Generator) -> Any:
        nonlocal calls
        calls += 1
        if calls > 7:
            raise Broken
        return TASK.augment(prepared, targets, rng)

    options = {"ema": 0.9, "accumulation": 1, "checkpoints": folder}
    undisturbed = train(ema=0.9)
    with pytest.raises(Broken):
        train(replace(TASK, augment=failing), **options)
    assert list(Path(folder).glob("member_0/checkpoint-4"))
    resumed = train(**options, resume=True)
    assert resumed.history == undisturbed.history
    assert np.array_equal(weights(resumed), weights(undisturbed))


def test_a_training_goes_on_past_a_checkpoint_that_was_torn(tmp_path: Path) -> None:
    options = {"ema": 0.9, "checkpoints": str(tmp_path)}
    undisturbed = train(**options)
    states = sorted(tmp_path.glob("member_0/checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    torn = states[-1] / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:20])
    resumed = train(**options, resume=True)
    assert np.array_equal(weights(resumed), weights(undisturbed))


def test_fine_tuning_starts_from_a_bundle(bundle: Bundle, trained: Trained) -> None:
    started = train(steps=0, start=str(bundle.path))
    assert np.array_equal(weights(started), weights(trained))


def test_accumulation_is_a_larger_batch() -> None:
    quiet = replace(TASK, augment=None)
    one = train(quiet, batch_size=8, steps=4, storage="fp32")
    two = train(quiet, batch_size=4, accumulation=2, steps=4, storage="fp32")
    np.testing.assert_allclose(weights(one), weights(two), rtol=1e-3, atol=1e-5)


def test_other_optimisers_and_dropout() -> None:
    examples = TASK.simulate(30, 0)
    given = {"optimizer": "sgd", "learning_rate": 0.05, "steps": 30, "evaluations": 3, "dropout": 0.2}
    trained = train_task(TASK, examples[:20], examples[20:], make_options(TASK, given))
    history = trained.history[0]
    assert history[-1]["loss"] < history[0]["loss"]
    model = TASK.build()
    set_dropout(model, None)
    before = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert before
    assert set(before) == {0.0}
    set_dropout(model, 0.3)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    flux, mask = torch.randn(4, 8), torch.ones(4, 8)
    model.train()
    assert not torch.equal(model(flux, mask)["logits"], model(flux, mask)["logits"])
    groups = [{"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.0}]
    plain = make_optimizer(groups, make_options(TASK, {"optimizer": "sgd", "momentum": 0}))
    assert (type(plain), plain.defaults["nesterov"]) == (torch.optim.SGD, False)


def test_bf16_trains() -> None:
    assert train(bf16=True, steps=30, evaluations=2).history[0][-1]["validation"] < 0.5


def test_frozen_parameters_stand_still() -> None:
    before = train(steps=0)
    after = train(freeze=("encoder", "embed"))
    for name, value in before.models[0].state_dict().items():
        same = torch.equal(value, after.models[0].state_dict()[name])
        assert same == (not name.startswith("head")), name
    assert all(p.requires_grad for p in after.models[0].parameters()), "who fine-tunes next chooses for himself"


def test_frozen_norms_are_found() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    assert freeze(model, ("^0", "^1")) == [model[0]]
    assert freeze(torch.nn.BatchNorm1d(2), ()) == []


def test_learning_rates_by_layer() -> None:
    options = TrainingOptions(learning_rate=0.1, lr_factors={"^embed": 0.0, "^encoder": 0.5}, weight_decay=0.2)
    model = build()
    groups = parameter_groups(model, options)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [
        (0.0, 0.0), (0.0, 0.2), (0.05, 0.0), (0.05, 0.2), (0.1, 0.0), (0.1, 0.2),
    ]  # fmt: skip
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    still = train(lr_factors={"^embed": 0.0}).models[0].embed.weight
    assert torch.equal(still, train(steps=0).models[0].embed.weight)


def test_balanced_draws() -> None:
    rng = np.random.default_rng(0)
    examples = [example(f"s{i}", "bright" if i < 3 else "faint", rng) for i in range(30)]
    chances = balance_weights(examples, ("class_name",))
    assert chances is not None
    assert chances[:3].sum() == pytest.approx(chances[3:].sum())
    drawn = StepSampler(30, 4000, 0, chances).indices
    assert (drawn < 3).mean() == pytest.approx(0.5, abs=0.03)
    assert balance_weights(examples, ()) is None
    assert set(StepSampler(30, 30, 0).indices.tolist()) == set(range(30))
    assert len(StepSampler(30, 71, 0)) == 71


def test_the_augmentation_of_a_batch_hangs_on_its_number_only() -> None:
    rows = [(TASK.prepare(e.record), TASK.encode(e.labels)) for e in TASK.simulate(4, 0)]
    one, two = Collator(TASK, ["flux"], 7), Collator(TASK, ["flux"], 7)
    first, second = one(rows), one(rows)
    two.count = 1
    assert not torch.equal(first["inputs"]["flux"], second["inputs"]["flux"])
    assert torch.equal(second["inputs"]["flux"], two(rows)["inputs"]["flux"])
    assert list(first["inputs"]) == ["flux"]
    assert first["targets"]["class"].dtype == torch.int64


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    broken = replace(TASK, loss=lambda outputs, targets: outputs["logits"].sum() * float("nan"))
    with pytest.raises(TrainingError, match="loss is nan at step 1 of task toy"):
        train(broken)


def test_refused_objects_are_counted_and_nothing_left_is_an_error() -> None:
    examples = TASK.simulate(20, 0)
    senseless = replace(examples[0], record=replace(examples[0].record, object_id="senseless"))
    kept, prepared, rejects = prepare_all(TASK, [senseless, *examples[1:3]])
    assert (len(kept), len(prepared)) == (2, 2)
    assert (rejects[0].stage, rejects[0].error) == ("prepare", "Unusable")
    options = make_options(TASK, {"steps": 0})
    assert train_task(TASK, [senseless, *examples[1:10]], examples[10:], options).counts["refused"] == 1
    with pytest.raises(TrainingError, match="no training objects; the first was refused: object 'senseless'"):
        train_task(TASK, [senseless], examples, options)
    with pytest.raises(TrainingError, match="no validation objects"):
        train_task(TASK, examples, [], options)


def test_calibration_is_of_the_weights_that_are_stored(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def calibrate(outputs: Any, prepared: Any, targets: Any) -> dict[str, Any]:
        seen.append(outputs["logits"])
        return {}

    task = replace(TASK, calibrate=calibrate)
    trained = train(task)
    inputs = [task.prepare(e.record) for e in task.simulate(48, 1)[24:]]
    stored = load_predictor(save(trained, tmp_path / "b").path, task=task)
    fitting = stored.rows.inner.inner.inner.learned.inner.inner.outputs  # type: ignore[attr-defined]
    again = np.concatenate([fitting(inputs[i : i + 4], 4)[0]["logits"] for i in range(0, 24, 4)])
    np.testing.assert_array_equal(again, seen[0])


def test_options_come_from_user_then_task_then_us() -> None:
    options = make_options(TASK, {"steps": 7, "seed": None, "freeze": "encoder"})
    assert (options.steps, options.batch_size, options.seed, options.clip) == (7, 8, 0, 1.0)
    assert options.freeze == ("encoder",)
    assert options.as_dict()["steps"] == 7


def test_all_faults_of_the_options_are_told_at_once() -> None:
    given = {
        "steps": -1, "batch_size": True, "learning_rate": "fast", "ema": 1.0, "schedule": "step", "storage": "int8",
        "device": "gpu", "freeze": ("(",), "lr_factors": {"a": -1}, "resume": True, "members": 99, "colour": "red",
    }  # fmt: skip
    with pytest.raises(OptionsError) as caught:
        make_options(replace(TASK, options={"width": 3}), given)
    text = "\n".join(caught.value.faults)
    for sentence in (
        "options has an unknown section 'width'", "unknown training option 'colour'", "steps -1 is not a whole number",
        "batch_size True", "learning_rate 'fast' is not a number", "ema 1.0", "schedule 'step' is not one of cosine",
        "storage 'int8'", "device 'gpu'", "'(' is not a regular expression", "lr_factors: -1",
        "resume needs checkpoints", "members 99 is not a whole number from 1 to 16",
    ):  # fmt: skip
        assert sentence in text
    assert len(caught.value.faults) == 13


def test_copies_do_not_share_memory() -> None:
    model = torch.nn.Linear(1, 1)
    state = copy_state(model)
    torch.nn.init.constant_(model.weight, 9.0)
    assert state["weight"].item() != 9.0
