"""Copies of training objects: measured anew, of the same weight, for the network alone, and written down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune.augment.copies import make_copies, measured_again
from finetune.bundle import Info
from finetune.card import model_card
from finetune.tasks import get, names
from finetune.train import prepare_all, prepare_data, train_task
from finetune.training_options import OptionsError, make_options
from finetune.watched_trainer import TrainingError
from tests.finetune.augment.test_light_curves import PERIOD, pulsator
from tests.finetune.toy_task import TASK, Cut, example
from transforms.attempt import Unusable
from transforms.period import measure_light_curve
from transforms.records import Cutout, LightCurve, Spectrum

SECOND = {Cutout: "seeing=8", Spectrum: "lamost", LightCurve: "rubin"}
EXAMPLES = [example(f"star{i}", ("faint", "bright")[i % 2], np.random.default_rng(i)) for i in range(24)]


def test_a_copy_is_measured_like_the_object() -> None:
    star = measure_light_curve(pulsator(n=200), {})
    task = get("variable_star")
    one = replace(EXAMPLES[0], record=star)
    _, prepared, _ = prepare_all(task, [one])
    copies = make_copies(task, [one], prepared, ["noise=10", "cadence"], 3, 0)
    assert len(copies.examples) == len(copies.prepared) == 3
    for copy, arrays in zip(copies.examples, copies.prepared, strict=True):
        assert copy.group == one.group
        assert copy.labels is one.labels
        assert copy.record.measured["n_visits"] < star.measured["n_visits"]
        assert copy.record.measured["period"] == pytest.approx(PERIOD, rel=0.02)
        assert set(arrays) == set(prepared[0])
        assert not np.array_equal(arrays["numbers"], prepared[0]["numbers"])
    bare = pulsator(n=30)
    assert measured_again(bare) is bare  # what was not measured is not


def test_copies_weigh_like_the_object_even_where_one_cannot_be_prepared() -> None:
    def fussy(record):
        if record.flux_err[0] > 1.5:
            raise Unusable("too noisy for me")
        return TASK.prepare(record)

    task = replace(TASK, prepare=fussy)
    _, prepared, _ = prepare_all(task, EXAMPLES)
    copies = make_copies(task, EXAMPLES, prepared, ["noise=20"], 4, 0)
    assert 0 < copies.replaced < 96
    assert [e.group for e in copies.examples] == [e.group for e in EXAMPLES for _ in range(4)]
    assert copies.changed == {"noise": 96 - copies.replaced}


def test_only_the_network_learns_from_copies() -> None:
    seen = {}

    class Yardstick(Cut):
        def fit(self, examples, prepared, *, seed):
            seen["baseline"] = len(examples)
            super().fit(examples, prepared, seed=seed)

    def initialise(model, examples, prepared, baseline):
        seen["initialise"] = len(examples)

    task = replace(TASK, baseline=Yardstick, options={**TASK.options, "initialise": initialise})
    options = make_options(task, {"steps": 4, "augment": "noise=3", "augment_copies": 3})
    data = prepare_data(task, EXAMPLES[:16], EXAMPLES[16:], options)
    assert (len(data.train), len(data.copies.examples), len(data.validation)) == (16, 48, 8)
    assert all(
        (a is b) for a, b in zip((e.record for e in data.validation), (e.record for e in EXAMPLES[16:]), strict=True)
    )
    trained = train_task(task, EXAMPLES[:16], EXAMPLES[16:], options)
    assert seen == {"baseline": 16, "initialise": 16}
    assert trained.counts["train"] == 16
    augmented = trained.counts["augmented"]
    assert (augmented["copies"], augmented["replaced"]) == (48, 0)
    assert augmented["changed"]["noise"] == 48


def test_copies_are_repeatable_and_hang_on_the_seed() -> None:
    def made(**given):
        data = prepare_data(TASK, EXAMPLES[:16], EXAMPLES[16:], make_options(TASK, given))
        return np.array([one["flux"] for one in data.copies.prepared])

    one, two = made(augment="noise=3"), made(augment=["noise=3"])
    assert one.shape == (64, 8)
    assert (one == two).all()
    assert not (one == made(augment="noise=3", seed=1)).any()
    assert made(augment_copies=9).size == 0  # without a name there are no copies


@pytest.mark.parametrize("name", names())
def test_every_task_gets_it_by_its_kind_of_record(name: str) -> None:
    task = get(name)
    kept, prepared, _ = prepare_all(task, task.simulate(3, 0))
    copies = make_copies(task, kept, prepared, ["noise=5", SECOND[task.record]], 2, 0)
    assert len(copies.prepared) == 2 * len(kept)
    assert copies.changed["noise"] > 0
    for own, new in zip(prepared, copies.prepared[::2], strict=True):
        assert {k: np.shape(v) for k, v in own.items()} == {k: np.shape(v) for k, v in new.items()}


def test_an_augmentation_that_can_do_nothing_is_a_clear_error() -> None:
    bad = {"band": np.full(8, "?"), "flux_err": np.full(8, 9.0)}
    strange = [replace(e, record=replace(e.record, **bad)) for e in EXAMPLES]
    options = make_options(TASK, {"steps": 1, "augment": "kepler"})
    with pytest.raises(TrainingError, match=r"augment kepler changes none of 64 copies of 16 LightCurve records"):
        train_task(TASK, strange[:16], strange[16:], options)
    with pytest.raises(OptionsError, match="augment 'hubble' is not known for a LightCurve"):
        make_options(TASK, {"augment": "hubble"})
    with pytest.raises(OptionsError, match="augment 3 is not a list of names"):
        make_options(TASK, {"augment": 3})
    with pytest.raises(OptionsError, match="augment_copies 0 is not a whole number from 1 to 64"):
        make_options(TASK, {"augment_copies": 0})


def test_the_card_says_what_was_done() -> None:
    trained = train_task(TASK, EXAMPLES[:16], EXAMPLES[16:], make_options(TASK, {"steps": 2, "augment": "noise:0.5"}))
    info = Info(
        task="toy", task_version=1, package_version="0", created_by="", seed=0, data=dict(trained.counts), build={},
        calibration={}, rule={}, training={"options": trained.options.as_dict(), "history": []}, metrics={}, classes=(),
    )  # fmt: skip
    text = model_card(TASK, info, "abc", {})
    changed = trained.counts["augmented"]["changed"]["noise"]
    assert 0 < changed < 64
    assert f"| augmentation of training objects | `noise:0.5`: 64 copies; noise changed {changed} |" in text
